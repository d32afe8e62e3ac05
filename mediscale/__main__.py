"""``python -m mediscale``."""

import sys

from mediscale.cli.main import main

sys.exit(main())
