"""The contracts that plugins fulfil and the values they exchange."""

from .attack import Attack, AttackContext, AttackParams, Edit, Poison, PoisonPlan, Probe
from .data import DataPlace, Dataset, DatasetBundle, Images, Pairs, Task, Vocabulary
from .defense import Batch, Defense, Encoder, Phase, Scorer, TrainSetup
from .evaluator import EvalContext, Evaluator, FrozenModel, Measurement, Metric, share, wilson
from .plugin import Params, Plugin

__all__ = [
    "Attack",
    "AttackContext",
    "AttackParams",
    "Batch",
    "DataPlace",
    "Dataset",
    "DatasetBundle",
    "Defense",
    "Edit",
    "Encoder",
    "EvalContext",
    "Evaluator",
    "FrozenModel",
    "Images",
    "Measurement",
    "Metric",
    "Pairs",
    "Params",
    "Phase",
    "Plugin",
    "Poison",
    "PoisonPlan",
    "Probe",
    "Scorer",
    "Task",
    "TrainSetup",
    "Vocabulary",
    "share",
    "wilson",
]
