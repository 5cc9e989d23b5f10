"""Processes of their own, for the parts that need torch: what one leaves in memory must not count for another."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import traceback
from multiprocessing.connection import Connection
from typing import Any

from obverse.errors import ObverseError

# Imported once by the server that all children are copies of.
_MODULES = [
    "torch",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.llama.modeling_llama",
    "transformers.models.t5.modeling_t5",
    "obverse.models.causal",
    "obverse.models.seq2seq",
    "lm_eval.models.huggingface",  # passed over where it is absent
]


class ChildFailed(Exception):
    """A child ended without an answer, or with an error."""


class Children:
    """Runs functions of `scoring_speed.measure`, each in a fresh process."""

    def __init__(self) -> None:
        # Nothing is to be looked for elsewhere, and tokenising takes no more threads than the rest.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
        if "OMP_NUM_THREADS" in os.environ:
            os.environ.setdefault("RAYON_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
        method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        self._context: Any = multiprocessing.get_context(method)
        if method == "forkserver":
            self._context.set_forkserver_preload(_MODULES)

    def run(self, function: str, settings: dict[str, Any]) -> dict[str, Any]:
        """What the function found.

        Raises:
            ChildFailed: it raised an error, or the process was ended from outside.
        """
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_child, args=(function, settings, theirs), daemon=True)
        process.start()
        theirs.close()
        try:
            found, fault = ours.recv()
        except EOFError:
            process.join()
            raise ChildFailed(f"{function} was ended with exit code {process.exitcode}; memory may be short") from None
        process.join()
        if fault:
            raise ChildFailed(fault)
        return found


def _child(function: str, settings: dict[str, Any], answer: Connection) -> None:
    try:
        from scoring_speed import measure

        with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
            found = getattr(measure, function)(settings)
        answer.send((found, None))
    except ObverseError as error:
        answer.send((None, str(error)))
    except Exception:
        answer.send((None, traceback.format_exc()))
