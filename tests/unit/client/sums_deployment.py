"""A deployment of two scripted tiers, for tests of the offline tools."""

import json
from pathlib import Path


def write_deployment(folder: Path) -> Path:
    """folder/sums.json: tiers `small` and `large`, 1 and 4 dollars per 1M tokens."""
    tiers = [
        {"name": name, "style": "base", "context_tokens": 4096, "max_completion_tokens": 256, "price_per_mtok": price}
        for name, price in (("small", 1.0), ("large", 4.0))
    ]
    path = folder / "sums.json"
    path.write_text(json.dumps({"format": 1, "family": "sums", "runtime": "scripted", "plans": "p.json", "tiers": tiers}))
    return path
