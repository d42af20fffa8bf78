"""SoundingShapes: the project's own audio-visual world, with exact ground truth.

Objects of twelve kinds move in eight ways before a cluttered background; one of them sounds. The
kind decides the timbre, the motion decides when it sounds, and every mask, box and event is known.
"""

from avssl.synthetic.actions import ACTIONS as ACTIONS
from avssl.synthetic.corpus import Split as Split
from avssl.synthetic.corpus import synthesize_corpus as synthesize_corpus
from avssl.synthetic.picture import render_picture as render_picture
from avssl.synthetic.scene import Scene as Scene
from avssl.synthetic.scene import SceneSettings as SceneSettings
from avssl.synthetic.scene import draw_scene as draw_scene
from avssl.synthetic.shapes import KINDS as KINDS
from avssl.synthetic.sound import render_sound as render_sound
from avssl.synthetic.truth import Truth as Truth
from avssl.synthetic.truth import read_truth as read_truth
