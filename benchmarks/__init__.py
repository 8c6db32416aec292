"""One harness: run a suite, hold it against the published table, compare methods, measure speed."""
