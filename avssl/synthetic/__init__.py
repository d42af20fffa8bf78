"""Synthetic audio-visual datasets with exact ground truth: two worlds on one engine.

In SoundingShapes, drawn objects of twelve kinds move in eight ways in front of a cluttered background; one of them
sounds. The kind determines the timbre, the motion determines when it sounds. In StampScenes, cut-out photographs move
over photographs, and recordings of some of them are heard. Every mask, box and event is known.
"""

from avssl.synthetic.actions import ACTIONS as ACTIONS
from avssl.synthetic.audio import render_audio as render_audio
from avssl.synthetic.corpus import Split as Split
from avssl.synthetic.corpus import synthesize_corpus as synthesize_corpus
from avssl.synthetic.drawing import draw_scene as draw_scene
from avssl.synthetic.frames import render_frames as render_frames
from avssl.synthetic.scene import Scene as Scene
from avssl.synthetic.scene import SceneSettings as SceneSettings
from avssl.synthetic.shapes.outlines import KINDS as KINDS
from avssl.synthetic.shapes.world import SHAPES as SHAPES
from avssl.synthetic.truth import Truth as Truth
from avssl.synthetic.truth import read_truth as read_truth
from avssl.synthetic.world import World as World
