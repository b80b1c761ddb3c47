"""`python -m bench GROUP...`; see bench/run."""

import sys

from bench.harness import main

sys.exit(main())
