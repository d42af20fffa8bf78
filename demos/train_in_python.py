"""Pretrain in Python: data, model, objective and loop, with nothing hidden.

    python demos/train_in_python.py [FOLDER_OF_VIDEOS] [STEPS]

Without a folder it makes 80 clips of SoundingShapes. CPU or GPU, minutes, no download. `avssl pretrain` does the same,
with checkpoints, exact resume, several GPUs, monitors and a release.
"""

import math
import sys

import numpy as np
import torch

from avssl.data import ClipDataset, ClipSampling, EvalLoader, TrainLoader, index_folder
from avssl.engine import choose_device, create_optimizer, seed_everything
from avssl.evaluation import cross_modal_retrieval
from avssl.models import AVModel, create_encoder, create_head
from avssl.objectives import info_nce
from avssl.synthetic import SceneSettings, Split, synthesize_corpus
from avssl.transforms import ClipTransform, LogMel, Standardize, VideoAugment, VideoEval, estimate_statistics


def main(folder: str, steps: int) -> None:
    """Train on four fifths of the files, and let the clips of the others find their own audio."""
    seed_everything(0)
    device = choose_device()

    # Data: random windows of 8 frames and 1 s of audio, decoded to uint8 frames and waveforms.
    clips = {"train": Split(80, SceneSettings())}
    manifest = index_folder(folder).manifest if folder else synthesize_corpus("shapes", clips)
    sampling = ClipSampling(num_frames=8, frames_per_second=8.0, audio_seconds=1.0, sample_rate_hz=16000)
    is_test = np.arange(len(manifest)) % 5 == 0
    train = TrainLoader(ClipDataset(manifest.select(~is_test), sampling), batch_size=16, device=device)
    test = EvalLoader(ClipDataset(manifest.select(is_test), sampling), batch_size=16)

    # Augmentation and spectrograms of a whole batch, on the device.
    spectrogram, batches = LogMel(sample_rate_hz=16000), iter(train)
    standardize = Standardize(spectrogram.num_bins)
    standardize.set_statistics(*estimate_statistics(spectrogram(next(batches).audio.cpu()) for _ in range(4)))
    transform = ClipTransform(VideoAugment(size=64), VideoEval(64), spectrogram, standardize=standardize).to(device)

    # Model: an encoder and a projection head for each modality.
    encoders = create_encoder("small_video"), create_encoder("small_audio")
    heads = (create_head("mlp", encoder.num_features, hidden=128, out_features=64) for encoder in encoders)
    model = AVModel(*encoders, *heads).to(device)
    optimizer = create_optimizer(model, "adamw", lr=1e-3, weight_decay=1e-4)

    for step in range(1, steps + 1):
        views = transform(next(batches))
        embeddings = model(views.video, views.audio)
        loss = info_nce(embeddings.video, embeddings.audio, temperature=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0 or step == 1:
            print(f"step {step:4d}   loss {loss.item():.3f}   chance {math.log(len(views.video)):.3f}", flush=True)

    transform.eval(), model.eval()
    with torch.inference_mode():
        plain = [transform(batch.to(device)) for batch, _, _ in test]
        found = [model(views.video, views.audio) for views in plain]
    numbers = cross_modal_retrieval(torch.cat([x.video for x in found]), torch.cat([x.audio for x in found]))
    print(" ".join(f"{name} {numbers[name]:.2f}" for name in ("v2a_R@5", "a2v_R@5", "chance_R@5", "gallery_size")))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "", int(sys.argv[2]) if len(sys.argv) > 2 else 200)
