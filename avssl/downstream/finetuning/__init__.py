"""Train and evaluate classifiers fold by fold: what fine-tuning and distillation share."""

from avssl.downstream.finetuning.driver import run_fold as run_fold
from avssl.downstream.finetuning.driver import run_folds as run_folds
from avssl.downstream.finetuning.fold_files import fold_directory as fold_directory
from avssl.downstream.finetuning.fold_rows import FoldRows as FoldRows
from avssl.downstream.finetuning.fold_rows import fold_rows as fold_rows
from avssl.downstream.finetuning.fold_rows import training_rows as training_rows
from avssl.downstream.finetuning.prediction import Evaluation as Evaluation
from avssl.downstream.finetuning.prediction import evaluate as evaluate
from avssl.downstream.finetuning.prediction import predict as predict
from avssl.downstream.finetuning.results import summary_text as summary_text
from avssl.downstream.finetuning.run import ClassifierRun as ClassifierRun
from avssl.downstream.finetuning.training import TrainingLength as TrainingLength
from avssl.downstream.finetuning.training import build_schedule as build_schedule
from avssl.downstream.finetuning.training import rate_groups as rate_groups
