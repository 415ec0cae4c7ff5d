"""Table, figures and page of a language run's folder."""

from experiments.configs.p0 import language as note
from experiments.report._perplexities import PerplexityReport

_HOW_TO_READ = """\
Perplexity: the exponential of the mean negative log likelihood of all tokens of a split
but the first, dropout off, with the state of the network carried on. Mean ± sample
deviation over seeds, and below it the 95 % bootstrap interval of the mean, which
resamples seeds only and is too narrow for a handful of them. Each text was evaluated
once per run at its end, validation also after every epoch. Rates were chosen on
validation for the optimisers without averaging; those with it took over their base's.
Perplexities of pydocs compare only where the hash of its text is the same. The columns
on the right are what P0 reports for Penn Treebank (tables 12 and 13): another text,
another network, and no target for this one."""

REPORT = PerplexityReport(
    training={
        "train_perplexity": "training,\niterate",
        "average_train_perplexity": "training,\naverage",
    },
    paper=("P0, PTB:\nvalidation", "P0, PTB:\ntest"),
    reported=note.REPORTED,
    how_to_read=_HOW_TO_READ,
    note=note,
)

write, show = REPORT.write, REPORT.show
write_and_show = REPORT.write_and_show
