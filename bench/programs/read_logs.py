"""Read every line of the logs in a folder, as a program without more would."""

import json
import sys
from pathlib import Path

for path in sorted(Path(sys.argv[1]).glob("*.jsonl")):
    with path.open() as file:
        for line in file:
            json.loads(line)
