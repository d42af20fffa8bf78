"""Backbones of timm, torchvision and transformers as ordinary encoders, untrained or with their public weights.

Data flows one way, and each step has one file::

    pretrained (folder or hub id) ─ weights.py ─┐
    backbone, config, preprocessing ── spec.py ─┴─ timm.py, torchvision.py, hf_*.py ─ Backbone ─ tower.py ─ Encoder
                                                       └─ contract.py ─ defaults and checks of sampling and transform

- A :class:`~avssl.models.foreign.spec.Spec` says which network to build, offline. Files of ``pretrained`` complete it
  once, when settings are read, so that a run, its resume and its release never look them up again.
- Each library has one file. It builds a :class:`~avssl.models.foreign.backbone.Backbone`: a network whose tokens come
  back as maps, with class and register tokens apart, and a contract: frames, rate and spectrogram it was trained on.
- :class:`~avssl.models.foreign.tower.ForeignEncoder` adds what all share: frozen parts, LoRA, recomputed activations,
  learning rates by layer, attention over time.
- The contract gives the defaults of ``sampling`` and ``transform``; a setting that contradicts it is an error. The
  transforms compute the input, of a whole batch on the device, as the library's own processor does.
- Weights are safetensors; no code of a release runs, and only a named hub id uses the network.
"""
