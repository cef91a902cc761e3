"""What a zygote does so that a fork is cheap."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import json
from codecascade.sandbox.zygote.main import _settle_memory

def pools(objects):
    return len({id(thing) >> 14 for thing in objects})

sizes = range(15, 480, 16)
with_gaps = [[bytes(size) for _ in range(3000)][::2] for size in sizes]
_settle_memory()
later = [[bytes(size) for _ in range(20)] for size in sizes]
print(json.dumps([[pools(group) for group in with_gaps], [pools(group) for group in later]]))
"""


def test_objects_made_after_the_start_lie_together() -> None:
    output = subprocess.run([sys.executable, "-c", SCRIPT], check=True, stdout=subprocess.PIPE).stdout
    with_gaps, later = json.loads(output)
    assert min(with_gaps) > 4
    assert max(later) <= 2
