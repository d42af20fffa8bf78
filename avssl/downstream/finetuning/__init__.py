"""A classifier on the rows of a manifest, trained and judged fold by fold: what fine-tuning and distillation share."""

from avssl.downstream.finetuning.driver import run_fold, run_folds, say
from avssl.downstream.finetuning.fold import (
    FoldRows,
    finish_fold,
    fold_folder,
    fold_rows,
    judge,
    kept_labels,
    read_result,
)
from avssl.downstream.finetuning.prediction import Predictions, predict
from avssl.downstream.finetuning.results import summarize, table
from avssl.downstream.finetuning.start import Started, begin
from avssl.downstream.finetuning.training import Plan, Trained, rate_groups, schedule, train_classifier

__all__ = [
    "FoldRows",
    "Plan",
    "Predictions",
    "Started",
    "Trained",
    "begin",
    "finish_fold",
    "fold_folder",
    "fold_rows",
    "judge",
    "kept_labels",
    "predict",
    "rate_groups",
    "read_result",
    "run_fold",
    "run_folds",
    "say",
    "schedule",
    "summarize",
    "table",
    "train_classifier",
]
