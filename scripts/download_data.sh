#!/usr/bin/env bash
# Fetch the official evaluation and training data, for a machine with internet.
set -euo pipefail

HUB="${HF_ENDPOINT:-https://huggingface.co}/datasets/princeton-nlp/datasets-for-simcse/resolve/main"
SBERT="${SBERT_URL:-https://sbert.net/datasets}"

usage() {
    cat <<'EOF'
usage: bash scripts/download_data.sh [DIR] [--only eval|nli] [--dry-run] [--help]

Fetches into DIR (default: data), skipping what is there already and resuming what was cut off:
  DIR/downstream/             STS12-16, STSBenchmark, SICK and the transfer tasks in SentEval's own layout
                              (the senteval.tar of SimCSE); use it with --data_dir DIR, senteval protocol
  DIR/AllNLI.tsv.gz           SNLI + MultiNLI pairs with labels
  DIR/nli_for_simcse.csv      275,601 triplets: sent0, sent1, hard_neg

  --only eval|nli   the evaluation data or the training data alone
  --dry-run         print what would be fetched, and fetch nothing
Mirrors: HF_ENDPOINT (default https://huggingface.co), SBERT_URL (default https://sbert.net/datasets).
EOF
}

die() { echo "download_data.sh: $1" >&2; exit "${2:-1}"; }

dir="" only="all" dry=0
while [ $# -gt 0 ]; do
    case "$1" in
        -h|--help) usage; exit 0 ;;
        --dry-run) dry=1 ;;
        --only)
            [ $# -ge 2 ] || die "--only needs a value: eval or nli" 2
            only="$2"; shift ;;
        --only=*) only="${1#--only=}" ;;
        -*) die "unknown flag $1; see --help" 2 ;;
        *) [ -z "$dir" ] || die "more than one folder given: $dir and $1" 2
           dir="$1" ;;
    esac
    shift
done
dir="${dir:-data}"
case "$only" in all|eval|nli) ;; *) die "--only is eval or nli, not $only" 2 ;; esac

if [ "$dry" -eq 0 ]; then
    for tool in tar gzip; do
        command -v "$tool" >/dev/null || die "$tool is missing; install it and run this again"
    done
    # A progress bar for a person; in a log only our own lines.
    if [ -t 2 ]; then progress=--progress-bar; else progress=-s; fi
    if command -v curl >/dev/null; then fetcher=curl
    elif command -v wget >/dev/null; then fetcher=wget
    else die "neither curl nor wget is here; install one and run this again"
    fi
    mkdir -p "$dir" || die "can't make the folder $dir"
fi

# fetch URL FILE: download to FILE.part, resuming it if it is there, and move it into place when it is whole.
fetch() {
    local url="$1" file="$2"
    if [ -e "$file" ]; then echo "have     $file"; return; fi
    if [ "$dry" -eq 1 ]; then echo "would fetch $url -> $file"; return; fi
    echo "fetching $url"
    local failed="could not fetch $url; check the network and run this again, it resumes (else remove $file.part)"
    case "$fetcher" in
        curl) curl -fL --retry 3 "$progress" -C - -o "$file.part" "$url" || die "$failed" ;;
        wget) wget -c -q --tries=3 -O "$file.part" "$url" || die "$failed" ;;
    esac
    case "$file" in
        *.gz)  gzip -t "$file.part" 2>/dev/null || broken "$file" ;;
        *.tar) tar -tf "$file.part" >/dev/null 2>&1 || broken "$file" ;;
        *)     [ -s "$file.part" ] || broken "$file" ;;
    esac
    mv "$file.part" "$file"
}

# A whole download that is not what it should be can't be resumed: it starts anew next time.
broken() {
    rm -f "$1.part"
    die "what came for $1 is damaged or no such file; run this again"
}

senteval() {
    local home="$dir/downstream" new="$dir/downstream.part" tar_file="$dir/senteval.tar" sts
    if [ -d "$home/STS" ] && [ -d "$home/SICK" ]; then echo "have     $home"; return; fi
    [ ! -e "$home" ] || die "$home is there but lacks STS or SICK; move it away and run this again"
    fetch "$HUB/senteval.tar" "$tar_file"
    if [ "$dry" -eq 1 ]; then echo "would unpack $tar_file -> $home"; return; fi
    rm -rf "$new"
    mkdir -p "$new"
    tar -xf "$tar_file" -C "$new" || die "can't unpack $tar_file; remove it and run this again"
    sts="$(find "$new" -type d -name STS -print -quit)"
    [ -n "$sts" ] || die "$tar_file has no folder STS; remove it and run this again"
    mv "$(dirname "$sts")" "$home"
    rm -rf "$new" "$tar_file"
    echo "have     $home"
}

if [ "$only" != nli ]; then senteval; fi
if [ "$only" != eval ]; then
    fetch "$SBERT/AllNLI.tsv.gz" "$dir/AllNLI.tsv.gz"
    fetch "$HUB/nli_for_simcse.csv" "$dir/nli_for_simcse.csv"
fi
if [ "$dry" -eq 0 ]; then echo "done: give --data_dir $dir"; fi
