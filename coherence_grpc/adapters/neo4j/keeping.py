"""How a statement says that its plan is to be kept."""

from __future__ import annotations

from typing import Final

# As a graph grows the server plans each statement anew, at most every ten seconds: a tenth of a second, half a second
# on a busy machine, in which no signal is stored. These have one right plan, which they have on an empty graph too.
KEPT: Final = "CYPHER replan=skip"
