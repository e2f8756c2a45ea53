"""The plugin API: base classes of plugins, and the types that they exchange with the engine."""

from bench.meaning import Meaning, Mixture, Stage

from .attack import Attack, AttackContext, AttackParams, Edit, Poison, PoisonPlan, Probe, Query, Surrogate
from .data import DataPlace, Dataset, DatasetBundle, Images, Masks, Pairs, Task, Vocabulary
from .defense import Batch, Budget, Defense, Elements, Guide, ImageView, Phase, TextView, TrainRecipe, TrainSetup
from .encoder import Encoder, Scorer
from .evaluator import EvalContext, Evaluator, FrozenModel, Measurement, Metric, PairScores, class_mean, share, wilson
from .limit import Limit
from .plugin import Params, Plugin
from .predictions import Predictions

__all__ = [
    "Attack",
    "AttackContext",
    "AttackParams",
    "Batch",
    "Budget",
    "DataPlace",
    "Dataset",
    "DatasetBundle",
    "Defense",
    "Edit",
    "Elements",
    "Encoder",
    "EvalContext",
    "Evaluator",
    "FrozenModel",
    "Guide",
    "ImageView",
    "Images",
    "Limit",
    "Masks",
    "Meaning",
    "Measurement",
    "Metric",
    "Mixture",
    "PairScores",
    "Pairs",
    "Params",
    "Phase",
    "Plugin",
    "Poison",
    "PoisonPlan",
    "Predictions",
    "Probe",
    "Query",
    "Scorer",
    "Stage",
    "Surrogate",
    "Task",
    "TextView",
    "TrainRecipe",
    "TrainSetup",
    "Vocabulary",
    "class_mean",
    "share",
    "wilson",
]
