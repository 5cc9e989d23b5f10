"""From a folder or a hub id to a language model, and from old weight files to safe ones."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from obverse.errors import ModelError, OutputError
from obverse.models.base import Conventions, LanguageModel
from obverse.models.conventions import infer_conventions, read_conventions, with_overrides, write_conventions
from obverse.models.counting import CountingModel

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "source.spm",
    "vocab.json",
    "vocab.txt",
)
_LONGEST_SHOWN = 200
_SENTENCEPIECE_FILES = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model")


def load_model(
    name: str,
    *,
    device: str | None = None,
    eos: str | None = None,
    allow_pickle: bool = False,
    truncation: str | None = None,
) -> LanguageModel:
    """The language model called `name`.

    Args:
        name: `counting`, `obverse-mini`, a folder in the transformers format, or an id on the Hugging Face hub. A
            folder goes before a hub id of the same name. Code that comes with a model is never run.
        device: `cuda`, `mps`, `cpu`; None takes the best one present.
        eos: end-of-sequence preset in place of the model's own.
        allow_pickle: also read weights in the old `.bin` form, through torch's weights-only unpickler.
        truncation: `fields` or `reference`, in place of the model's own.

    Raises:
        ModelError: there is no such model, or its files cannot be used; the message says how to mend it.
    """
    # Wrong words are refused before minutes of loading.
    with_overrides(Conventions(), eos=eos, truncation=truncation)
    if name == "counting":
        return CountingModel()
    if name == "obverse-mini":
        from obverse.models.bundled import load_bundled

        return load_bundled(device=device, eos=eos, truncation=truncation)
    source = _locate(name, allow_pickle=allow_pickle)
    conventions = read_conventions(source)
    if conventions is not None:
        conventions = with_overrides(conventions, eos=eos, truncation=truncation)

    from obverse.models.precision import choose_device, choose_dtype

    place = choose_device(device)
    with _quiet():
        config = _config(source, name)
        encoder_decoder = _is_encoder_decoder(config, name)
        tokenizer = _tokenizer(source, name)
        model = _weights(source, name, config, encoder_decoder, choose_dtype(place), allow_pickle=allow_pickle)
        model = model.to(place)
    if conventions is None:
        conventions = infer_conventions(
            name,
            model_type=config.model_type,
            has_sentinels="<extra_id_0>" in tokenizer.get_vocab(),
            source_name=_recorded_name(source),
        )
        conventions = with_overrides(conventions, eos=eos, truncation=truncation)
    if encoder_decoder:
        from obverse.models.seq2seq import Seq2SeqModel

        return Seq2SeqModel(model, tokenizer, name=name, conventions=conventions)
    from obverse.models.causal import CausalModel

    return CausalModel(model, tokenizer, name=name, conventions=conventions)


def convert(source: str, target: str | Path) -> Path:
    """Write a model with old `.bin` weights as a new folder: safetensors, tokenizer and `obverse.json`.

    The weights are read through torch's weights-only unpickler, which runs no code. The folder appears whole or not
    at all.

    Raises:
        ModelError: the source cannot be loaded.
        OutputError: the target exists already, or cannot be written.
    """
    target = Path(target)
    if os.path.lexists(target):
        raise OutputError("exists already", where=str(target), mend="Name a folder that does not exist yet.")
    if source in ("counting", "obverse-mini"):
        raise ModelError(f"{source!r} has no folder of its own to convert", mend="Name a model folder or a hub id.")
    model: Any = load_model(source, device="cpu", allow_pickle=True)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=str(target)) from None
    try:
        with _quiet():
            model.model.save_pretrained(building, safe_serialization=True)
            model.tokenizer.save_pretrained(building)
        write_conventions(model.conventions, building)
        building.chmod(0o755)
        building.rename(target)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=str(target)) from None
    finally:
        if building.exists():
            shutil.rmtree(building, ignore_errors=True)
    return target


def _locate(name: str, *, allow_pickle: bool) -> Path:
    """The folder with the model's files, checked for what is missing."""
    folder = Path(name if "\0" in name else os.path.expanduser(name))
    if os.path.isdir(folder):
        _check_folder(folder, allow_pickle=allow_pickle)
        return folder
    if os.path.exists(folder):
        raise ModelError("is a file, not a model folder", where=name, mend="Name the folder that the file stands in.")
    if not _HUB_ID.match(name):
        raise ModelError(
            f"there is no model folder {_shown(name)}",
            mend="Check the path, or give a hub id such as google/flan-t5-small.",
        )
    folder = _download(name, ["*.json", "*.safetensors", "*.model", "*.spm", "*.txt"])
    if allow_pickle and not _weight_files(folder, ".safetensors"):
        folder = _download(name, ["*.json", "*.bin", "*.model", "*.spm", "*.txt"])
    if not allow_pickle and not _weight_files(folder, ".safetensors") and (folder / "config.json").is_file():
        raise ModelError(
            f"{name} has no weights in the safetensors form on the hub",
            mend=f"If it has .bin weights: add --allow-pickle, or run `obverse convert {name} FOLDER` once.",
        )
    _check_folder(folder, allow_pickle=allow_pickle)
    return folder


def _download(name: str, patterns: list[str]) -> Path:
    """The local copy of a hub repository's files of these kinds; an earlier copy serves where the hub is away."""
    from huggingface_hub import snapshot_download

    try:
        with _quiet():
            return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=["*/*", "consolidated*"]))
    except Exception as error:
        # The hub's client raises its own, its transport's and the system's errors alike; none helps the user more than
        # the two things that can be wrong.
        missing = type(error).__name__ in ("RepositoryNotFoundError", "HFValidationError")
        gated = type(error).__name__ == "GatedRepoError"
        if gated:
            raise ModelError(
                f"{name} on the hub asks you to accept its terms first", mend="Accept them, then run `hf auth login`."
            ) from None
        if missing:
            raise ModelError(
                f"there is no model folder {_shown(name)}, and no such model on the hub", mend="Check the name."
            ) from None
        raise ModelError(
            f"there is no model folder {_shown(name)}, and the hub could not be reached",
            mend="Check the path; for a hub id, check the connection.",
        ) from None


def _shown(name: str) -> str:
    return repr(name if len(name) <= _LONGEST_SHOWN else f"{name[:_LONGEST_SHOWN]}..")


def _weight_files(folder: Path, ending: str) -> bool:
    stem = "model" if ending == ".safetensors" else "pytorch_model"
    return (folder / f"{stem}{ending}").is_file() or (folder / f"{stem}{ending}.index.json").is_file()


def _check_folder(folder: Path, *, allow_pickle: bool) -> None:
    where = str(folder)
    if not (folder / "config.json").is_file():
        raise ModelError(
            "holds no config.json, so it is not a model folder", where=where, mend="Name the folder with the weights."
        )
    if not _weight_files(folder, ".safetensors"):
        if not _weight_files(folder, ".bin"):
            raise ModelError(
                "holds no weights", where=where, mend="A model folder has model.safetensors beside its config.json."
            )
        if not allow_pickle:
            raise ModelError(
                "holds its weights in the old .bin form only, which can carry code",
                where=where,
                mend=f"If you trust them: add --allow-pickle, or run `obverse convert {folder} FOLDER` once.",
            )
    # Without this check the library makes up an empty tokenizer for some kinds of model, and every answer is noise.
    if not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        raise ModelError(
            "holds no tokenizer",
            where=where,
            mend="Copy tokenizer.json or spiece.model into it.",
        )
    if not (folder / "tokenizer.json").is_file() and any((folder / file).is_file() for file in _SENTENCEPIECE_FILES):
        needed = [
            package
            for module, package in (("sentencepiece", "sentencepiece"), ("google.protobuf", "protobuf"))
            if not _installed(module)
        ]
        if needed:
            raise ModelError(
                f"has a SentencePiece tokenizer, which needs the package {' and '.join(needed)}",
                where=where,
                mend=f"Run: pip install {' '.join(needed)}",
            )


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _config(source: Path, name: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(str(source), trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise ModelError(
            f"its config.json cannot be used: {_first_line(error)}",
            where=name,
            mend="Obverse reads the encoder-decoder and causal models of the transformers library.",
        ) from None


def _is_encoder_decoder(config: Any, name: str) -> bool:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_MASKED_LM_MAPPING,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    )

    kind = type(config)
    if getattr(config, "is_encoder_decoder", False) and kind in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
        return True
    # BERT and its like stand among the causal models too, but only as decoders are they any.
    reads_both_ways = kind in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    encoder_part = any("EncoderModel" in (kind or "") for kind in getattr(config, "architectures", None) or ())
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING and not reads_both_ways and not encoder_part:
        return False
    architecture = next(iter(getattr(config, "architectures", None) or ()), config.model_type)
    raise ModelError(
        f"{architecture} does not write text" + (" (it is an encoder only)" if reads_both_ways or encoder_part else ""),
        where=name,
        mend="Choose an encoder-decoder (T5, BART, ..) or a causal model (GPT-2, Llama, ..).",
    )


def _tokenizer(source: Path, name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(source), trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise ModelError(
            f"its tokenizer cannot be used: {_first_line(error)}",
            where=name,
            mend="Copy the tokenizer's files anew from where the model was made.",
        ) from None


def _weights(source: Path, name: str, config: Any, encoder_decoder: bool, dtype: Any, *, allow_pickle: bool) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    auto: Any = AutoModelForSeq2SeqLM if encoder_decoder else AutoModelForCausalLM
    safe = _weight_files(source, ".safetensors") or not allow_pickle
    try:
        model, report = auto.from_pretrained(
            str(source),
            config=config,
            dtype=dtype,
            use_safetensors=safe,
            weights_only=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:
        raise ModelError(
            f"its weights cannot be read: {_first_line(error)}",
            where=name,
            mend="Copy the weights anew from where the model was made.",
        ) from None
    missing = sorted(report["missing_keys"])
    if missing:
        # The library fills such gaps with random numbers.
        raise ModelError(
            f"its weights lack {len(missing)} of the model's parameters, {missing[0]} the first",
            where=name,
            mend="The file belongs to another kind of model, or is not complete.",
        )
    return model


def _recorded_name(source: Path) -> str:
    """The name under which the model was once loaded, if its configuration kept it."""
    try:
        recorded = json.loads((source / "config.json").read_text(encoding="utf-8")).get("_name_or_path", "")
    except (OSError, ValueError):
        return ""
    return recorded if isinstance(recorded, str) else ""


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars, notices or background conversions from the model library; everything as before afterwards."""
    hub: Any = importlib.import_module("huggingface_hub.utils")
    logging: Any = importlib.import_module("transformers.utils.logging")
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub_bars_off = hub.are_progress_bars_disabled()
    conversion = os.environ.get("DISABLE_SAFETENSORS_CONVERSION")
    os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hub.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
        if hub_bars_off:
            hub.disable_progress_bars()
        else:
            hub.enable_progress_bars()
        if conversion is None:
            del os.environ["DISABLE_SAFETENSORS_CONVERSION"]
        else:
            os.environ["DISABLE_SAFETENSORS_CONVERSION"] = conversion
