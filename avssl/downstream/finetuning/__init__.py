"""Train and evaluate classifiers fold by fold: what fine-tuning and distillation share."""

from avssl.downstream.finetuning.driver import run_fold, run_folds
from avssl.downstream.finetuning.fold_files import fold_directory, read_result, write_fold
from avssl.downstream.finetuning.fold_rows import FoldRows, fold_rows, training_rows
from avssl.downstream.finetuning.prediction import Evaluation, Predictions, evaluate, predict
from avssl.downstream.finetuning.results import summarize, summary_text
from avssl.downstream.finetuning.run import ClassifierRun, start_run
from avssl.downstream.finetuning.training import (
    TrainingLength,
    TrainingResult,
    build_schedule,
    rate_groups,
    train_classifier,
)

__all__ = [
    "ClassifierRun",
    "Evaluation",
    "FoldRows",
    "Predictions",
    "TrainingLength",
    "TrainingResult",
    "build_schedule",
    "evaluate",
    "fold_directory",
    "fold_rows",
    "predict",
    "rate_groups",
    "read_result",
    "run_fold",
    "run_folds",
    "start_run",
    "summarize",
    "summary_text",
    "train_classifier",
    "training_rows",
    "write_fold",
]
