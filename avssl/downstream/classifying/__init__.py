"""Classes of new files by a fine-tuned classifier: rows, resumable logits, tables and a page."""

from avssl.downstream.classifying.evaluation import Truth as Truth
from avssl.downstream.classifying.logits import compute_logits as compute_logits
from avssl.downstream.classifying.logits import windows_over_time as windows_over_time
from avssl.downstream.classifying.results import PredictionResults as PredictionResults
from avssl.downstream.classifying.rows import rows_to_classify as rows_to_classify
from avssl.downstream.classifying.tables import PredictionFormat as PredictionFormat
