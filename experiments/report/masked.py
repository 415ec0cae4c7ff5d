"""Table, figures and page of the folder of a masked language run."""

from experiments.configs.p2 import masked as note
from experiments.report._perplexities import PerplexityReport

_HOW_TO_READ = """\
Perplexity: the exponential of the mean cross entropy of the masked tokens, 15 % of all,
dropout off. Those of validation and test are masked the same for every epoch and every
optimiser; those of training are the batches' as they were trained on, over the last
epoch. Mean ± sample deviation over seeds, and below it the 95 % bootstrap interval of
the mean, which resamples seeds only and is too narrow for a handful of them. Each text
was evaluated once per run at its end, validation also after every epoch. Rates were
chosen on validation. Perplexities compare only where the hashes of text and tokenizer
are the same. The column on the right is what P2 reports for WikiText-103 and 80.4
million parameters (figure 21): another text, another network, and no target for this
one."""

REPORT = PerplexityReport(
    training={"train_perplexity": "training"},
    paper=("P2, WikiText:\ntest",),
    reported={name: (value,) for name, value in note.REPORTED.items()},
    how_to_read=_HOW_TO_READ,
    note=note,
)

write, show = REPORT.write, REPORT.show
write_and_show = REPORT.write_and_show
