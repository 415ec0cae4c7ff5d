"""The one list of methods; :mod:`optax_ia.registry` looks things up in it."""

import types

from optax_ia import (
    adaptive,
    averaging,
    baselines,
    combinations,
    gradients,
    second_order,
)
from optax_ia._record import OptimizerRecord

RECORDS = (
    OptimizerRecord(
        name="sgd",
        factory=baselines.sgd,
        summary="Stochastic gradient descent with momentum and L2 decay.",
        paper="P0 sec. 5",
    ),
    OptimizerRecord(
        name="adam",
        factory=baselines.adam,
        summary="Adam with L2 decay.",
        paper="P0 sec. 3.1",
    ),
    OptimizerRecord(
        name="adamw",
        factory=baselines.adamw,
        summary="Adam with decoupled decay.",
        paper="P0 sec. 5",
    ),
    OptimizerRecord(
        name="amsgrad",
        factory=baselines.amsgrad,
        summary="Adam on the running maximum of the second moment, L2 decay.",
        paper="P0 Alg. 1 at p = 1/2",
    ),
    OptimizerRecord(
        name="adagrad",
        factory=baselines.adagrad,
        summary="Adagrad with L2 decay.",
        paper="P3 eq. 1; P4 table 1",
    ),
    OptimizerRecord(
        name="rmsprop",
        factory=baselines.rmsprop,
        summary="RMSprop with L2 decay.",
        paper="P3 sec. 1; P4 app. E.5",
    ),
    OptimizerRecord(
        name="yogi",
        factory=baselines.yogi,
        summary="Adam whose second moment moves by steps of bounded size.",
        paper="P2 eq. 25",
    ),
    OptimizerRecord(
        name="radam",
        factory=baselines.radam,
        summary="Adam with its early variance rectified.",
        paper="P2 sec. 4.2.2",
        test_learning_rate=0.01,  # in float32 the rectification cancels four digits
    ),
    OptimizerRecord(
        name="adabelief",
        factory=baselines.adabelief,
        summary="Adam on the variance around the mean gradient, decoupled decay.",
        paper="P4 table 1",
    ),
    OptimizerRecord(
        name="padam",
        factory=adaptive.padam,
        summary="Partially adaptive: second moment to the power p = 1/8, L2 decay.",
        paper="P0 Alg. 1; Chen & Gu 2018",
    ),
    OptimizerRecord(
        name="padamw",
        factory=adaptive.padamw,
        summary="Padam with decoupled decay.",
        paper="P0 Alg. 1",
    ),
    OptimizerRecord(
        name="swats",
        factory=adaptive.swats,
        summary="Adam, then SGD at the rate that Adam's steps suggest.",
        paper="P3 Alg. 1",
        base="adam",
    ),
    OptimizerRecord(
        name="adam_clip",
        factory=adaptive.adam_clip,
        summary="Adam with step sizes between multiples of SGD's rate.",
        paper="P3 sec. 2, fig. 1",
    ),
    OptimizerRecord(
        name="adabound",
        factory=adaptive.adabound,
        summary="Adam with bounds that close in on SGD's rate.",
        paper="P4 table 1; Luo et al. 2019",
    ),
    OptimizerRecord(
        name="amsbound",
        factory=adaptive.amsbound,
        summary="AdaBound on the running maximum of the second moment.",
        paper="P4; Luo et al. 2019, Alg. 3",
    ),
    OptimizerRecord(
        name="adamp",
        factory=adaptive.adamp,
        summary="Adam projected off scale-invariant weights.",
        paper="P4 table 1; Heo et al. 2021",
    ),
    OptimizerRecord(
        name="sgdp",
        factory=adaptive.sgdp,
        summary="SGD with momentum projected off scale-invariant weights.",
        paper="P4 table 1; Heo et al. 2021",
    ),
    OptimizerRecord(
        name="rmsgd",
        factory=adaptive.rmsgd,
        summary="SGD with momentum at layer-wise rates that follow stable ranks.",
        paper="P4 Alg. 1",
        own_rate=True,
        defaults=types.MappingProxyType({"steps_per_epoch": 390}),
        static=("power",),
    ),
    OptimizerRecord(
        name="sam_sgd",
        factory=combinations.sam_sgd,
        summary="SAM: SGD with momentum on the gradient at an ascent step.",
        paper="P4 table 1; Foret et al. 2021",
        needs=("grad_fn",),
        base="sgd",
    ),
    OptimizerRecord(
        name="sls",
        factory=gradients.sls,
        summary="SGD with a stochastic Armijo line search.",
        paper="P4 table 1; Vaswani et al. 2019",
        needs=("value", "value_fn"),
        own_rate=True,
        test_learning_rate=0.7,  # 1 meets Armijo's bound on it to the last digit
        exceptions=types.MappingProxyType(
            {
                "learning_rate_diagnostics": "the search finds the rate",
                "schedule": "the search finds the rate",
                "injected_learning_rate": "it sets the first trial alone",
            }
        ),
    ),
    OptimizerRecord(
        name="svrg_sgd",
        factory=combinations.svrg_sgd,
        summary="SGD on variance-reduced gradients.",
        paper="P2 sec. 4.3.1, eq. 27",
        needs=("grad_fn", "full_gradient"),
    ),
    OptimizerRecord(
        name="lanczos_newton",
        factory=second_order.lanczos_newton,
        summary="Damped Newton along the gradient's Krylov space, SGD beside it.",
        paper="P1 eq. 9, app. C.1",
        needs=("matvec",),
        static=("num_steps",),
        test_learning_rate=0.1,
    ),
    OptimizerRecord(
        name="shampoo",
        factory=second_order.shampoo,
        summary="Gradients preconditioned along every axis, in blocks, with momentum.",
        paper="P2 sec. 4.5.2, eq. 36; Gupta et al. 2018",
        static=("block_size", "max_dim"),
        test_learning_rate=0.01,
    ),
    OptimizerRecord(
        name="kfac",
        factory=second_order.kfac,
        summary="Natural gradient with a Kronecker-factored Fisher, and momentum.",
        paper="P1 sec. 5.1; P2 sec. 4.5.1, eq. 34",
        needs=("kfac_factors",),
        static=("max_dim",),
        test_learning_rate=0.01,
    ),
    OptimizerRecord(
        name="ranger",
        factory=averaging.ranger,
        summary="RAdam on centralised gradients in Lookahead.",
        paper="P2 sec. 4.3.3",
        base="radam",
        exceptions=types.MappingProxyType(
            {"convergence": "centred gradients never see the mean of a column"}
        ),
    ),
    OptimizerRecord(
        name="lookahead_adamw",
        factory=combinations.lookahead_adamw,
        summary="AdamW in Lookahead: every k steps halfway back to the slow weights.",
        paper="P0 app. .2; Zhang et al. 2019",
        base="adamw",
    ),
    OptimizerRecord(
        name="adamw_ema",
        factory=combinations.adamw_ema,
        summary="AdamW with an exponential moving average of the iterates.",
        paper="P0 sec. 4, app. A",
        averages=True,
        base="adamw",
    ),
    OptimizerRecord(
        name="swa",
        factory=averaging.swa,
        summary="SGD with momentum, L2 decay and a tail average.",
        paper="P0 sec. 2; Izmailov et al. 2018",
        averages=True,
        base="sgd",
    ),
    OptimizerRecord(
        name="asgd",
        factory=averaging.asgd,
        summary="Plain SGD with L2 decay and a tail average.",
        paper="P0 table 12",
        averages=True,
    ),
    OptimizerRecord(
        name="nt_asgd",
        factory=averaging.nt_asgd,
        summary="Plain SGD, averaged once a validation metric stops improving.",
        paper="P0 table 13",
        averages=True,
    ),
    OptimizerRecord(
        name="gadam",
        factory=averaging.gadam,
        summary="AdamW with a tail average.",
        paper="P0 Alg. 1, p = 1/2",
        averages=True,
        base="adamw",
    ),
    OptimizerRecord(
        name="gadamx",
        factory=averaging.gadamx,
        summary="PadamW with a tail average.",
        paper="P0 Alg. 1, p = 1/8",
        averages=True,
        base="padamw",
    ),
    OptimizerRecord(
        name="gadam_lookahead",
        factory=averaging.gadam_lookahead,
        summary="AdamW in Lookahead until averaging starts, then Gadam.",
        paper="P0 app. .2",
        averages=True,
        base="adamw",
        exceptions=types.MappingProxyType(
            {"iterates_untouched": "Lookahead ends where averaging starts"}
        ),
    ),
    OptimizerRecord(
        name="gadam_auto",
        factory=averaging.gadam_auto,
        summary="Gadam that starts averaging and stops by a validation metric.",
        paper="P0 app. A.2, table 8",
        averages=True,
        base="adamw",
    ),
)
