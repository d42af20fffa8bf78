"""SoundingShapes: a synthetic audio-visual dataset with exact ground truth.

Objects of twelve kinds move in eight ways in front of a cluttered background; one of them sounds. The
kind determines the timbre, the motion determines when it sounds, and every mask, box and event is known.
"""

from avssl.synthetic.actions import ACTIONS as ACTIONS
from avssl.synthetic.audio import render_audio as render_audio
from avssl.synthetic.corpus import Split as Split
from avssl.synthetic.corpus import synthesize_corpus as synthesize_corpus
from avssl.synthetic.frames import render_frames as render_frames
from avssl.synthetic.scene import Scene as Scene
from avssl.synthetic.scene import SceneSettings as SceneSettings
from avssl.synthetic.scene import draw_scene as draw_scene
from avssl.synthetic.shapes import KINDS as KINDS
from avssl.synthetic.truth import Truth as Truth
from avssl.synthetic.truth import read_truth as read_truth
