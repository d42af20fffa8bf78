"""StampScenes: photographs with their own recorded sounds, from packages that a user names."""

from avssl.synthetic.stamps.library import StampLibrary as StampLibrary
from avssl.synthetic.stamps.library import load_library as load_library
from avssl.synthetic.stamps.library import package_folders as package_folders
from avssl.synthetic.stamps.pools import UNSEEN_SPLITS as UNSEEN_SPLITS
from avssl.synthetic.stamps.world import StampSettings as StampSettings
from avssl.synthetic.stamps.world import StampWorld as StampWorld
