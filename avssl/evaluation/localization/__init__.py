"""Metrics of sound-source localization on arrays, with the rules and protocols of the literature by name.

Every function takes NumPy arrays or tensors, of one sample or of N. Numbers of different rules are not comparable:
report the rule, the resize mode and n with every number.
"""

from avssl.evaluation.localization.avsbench import avsbench_f_curves as avsbench_f_curves
from avssl.evaluation.localization.avsbench import avsbench_iou as avsbench_iou
from avssl.evaluation.localization.avsbench import best_f as best_f
from avssl.evaluation.localization.box_masks import flickr_truth as flickr_truth
from avssl.evaluation.localization.box_masks import is3_truth as is3_truth
from avssl.evaluation.localization.box_masks import vggss_truth as vggss_truth
from avssl.evaluation.localization.consensus import ciou as ciou
from avssl.evaluation.localization.curves import THRESHOLDS as THRESHOLDS
from avssl.evaluation.localization.curves import InteractiveScores as InteractiveScores
from avssl.evaluation.localization.curves import auc as auc
from avssl.evaluation.localization.curves import group_minimum as group_minimum
from avssl.evaluation.localization.curves import interactive as interactive
from avssl.evaluation.localization.curves import success as success
from avssl.evaluation.localization.negative_audio import NegativeAudioScores as NegativeAudioScores
from avssl.evaluation.localization.negative_audio import maxq3_threshold as maxq3_threshold
from avssl.evaluation.localization.negative_audio import negative_audio as negative_audio
from avssl.evaluation.localization.negatives import ExtendedScores as ExtendedScores
from avssl.evaluation.localization.negatives import extended_scores as extended_scores
from avssl.evaluation.localization.negatives import slavc_confidence as slavc_confidence
from avssl.evaluation.localization.object_prior import EZVSL_ALPHA as EZVSL_ALPHA
from avssl.evaluation.localization.object_prior import SLAVC_ALPHA as SLAVC_ALPHA
from avssl.evaluation.localization.object_prior import fuse_object_prior as fuse_object_prior
from avssl.evaluation.localization.peaks import pointing as pointing
from avssl.evaluation.localization.prompted import PromptedSegmentation as PromptedSegmentation
from avssl.evaluation.localization.prompted import prompted_segmentation as prompted_segmentation
from avssl.evaluation.localization.resizing import MODES as MODES
from avssl.evaluation.localization.resizing import resize_heatmaps as resize_heatmaps
from avssl.evaluation.localization.rules import RULES as RULES
from avssl.evaluation.localization.samples import localization_samples as localization_samples
from avssl.evaluation.localization.samples import summarize as summarize
