"""What InBedder takes where a user says nothing; light, so that programs can name it before torch is there."""

from __future__ import annotations

MODEL = "smollm2-135m"
MAX_LENGTH = 512  # tokens; the released training leaves 20 of them to the template
MASK_LENGTH = 3  # mask tokens behind the prompt of a masked model
