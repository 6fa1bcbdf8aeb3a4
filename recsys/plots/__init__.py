"""Pictures of what the frames hold, in one style; functions return matplotlib axes. Needs the extra "notebooks"."""

from recsys.plots.counts import histogram as histogram
from recsys.plots.counts import weights as weights
from recsys.plots.lines import concentration as concentration
from recsys.plots.lines import lines as lines
from recsys.plots.lines import stacked as stacked
from recsys.plots.points import calibration as calibration
from recsys.plots.points import intervals as intervals
from recsys.plots.ranks import ranks as ranks
from recsys.plots.style import PALETTE as PALETTE
from recsys.plots.style import panels as panels
