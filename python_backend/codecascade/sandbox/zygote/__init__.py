"""What runs inside the sandbox: a fresh interpreter that locks itself down and forks one child per candidate.

It is started by exec with a nearly empty environment and without site-packages, so these modules import only the standard
library and each other, never the rest of codecascade.
"""
