import sys

from going_modular.weights import main

sys.exit(main())
