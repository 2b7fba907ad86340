"""``python -m laminar.cli`` is ``laminar``."""

import sys

from laminar.cli.main import main

sys.exit(main())
