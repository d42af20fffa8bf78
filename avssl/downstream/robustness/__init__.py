"""How much a classifier's answers depend on what should not matter: disturbances of its clips, and who is in them."""

from avssl.downstream.robustness.answers import score_disturbances as score_disturbances
from avssl.downstream.robustness.answers import score_groups as score_groups
from avssl.downstream.robustness.cutouts import find_cutouts as find_cutouts
from avssl.downstream.robustness.disturbed import Disturbed as Disturbed
from avssl.downstream.robustness.disturbed import Encode as Encode
from avssl.downstream.robustness.disturbed import encode_disturbed as encode_disturbed
from avssl.downstream.robustness.page import Example as Example
from avssl.downstream.robustness.page import write_robustness_page as write_robustness_page
from avssl.downstream.robustness.subjects import Subject as Subject
from avssl.downstream.robustness.subjects import classifier_subject as classifier_subject
from avssl.downstream.robustness.subjects import probe_subject as probe_subject
from avssl.downstream.robustness.tables import accuracy_table as accuracy_table
from avssl.downstream.robustness.tables import disturbance_table as disturbance_table
from avssl.downstream.robustness.tables import group_table as group_table
