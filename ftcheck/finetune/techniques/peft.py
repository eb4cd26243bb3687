"""`peft: {method: lora, r: 8}`: train an adapter beside the frozen checkpoint, and keep nothing but the adapter.

By the peft library: LoRA (Hu et al. 2022), with DoRA (Liu et al. 2024) and rank stabilization (Kalajdzievski 2023), IA3
(Liu et al. 2022), prefix tuning (Li and Liang 2021) and prompt tuning (Lester et al. 2021).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from copy import copy, deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from ftcheck.errors import CheckpointError, FtcheckError, TechniqueError, one_of, shown
from ftcheck.finetune.parameters import bytes_of, heads
from ftcheck.finetune.techniques import Options, Problem, Technique, need

if TYPE_CHECKING:
    from ftcheck.finetune.techniques import Context
    from ftcheck.keys import Identifier
    from ftcheck.spec import Case, Facts

TASK_TYPES: Mapping[str, str] = {
    "text-classification": "SEQ_CLS",
    "token-classification": "TOKEN_CLS",
    "question-answering": "QUESTION_ANS",
    "summarization": "SEQ_2_SEQ_LM",
    "translation": "SEQ_2_SEQ_LM",
    "text-generation": "CAUSAL_LM",
    "preference": "CAUSAL_LM",
}
"""Without a task type peft would not keep the new head. It has none for the other tasks."""

_ADAPTERS = ("target_modules", "modules_to_save")
_PROMPTS = ("num_virtual_tokens",)
METHODS: Mapping[str, Collection[str]] = {
    "lora": (*_ADAPTERS, "r", "lora_alpha", "lora_dropout", "use_dora", "use_rslora"),
    "ia3": (*_ADAPTERS, "feedforward_modules"),
    "prefix_tuning": (*_PROMPTS, "prefix_projection"),
    "prompt_tuning": _PROMPTS,
}
"""Method -> the options that it has."""

VIRTUAL_TOKENS = 20
"""Where a suite doesn't say: what Lester et al. take as enough."""

ALL_LINEAR = "all-linear"
MERGES = ("lora", "ia3")
PROMPTS = ("prefix_tuning", "prompt_tuning")
JUDGING = ("parity", "max_difference")
"""What has no part in the training."""


class PeftOptions(Options):
    """What isn't given is peft's own default."""

    method: Literal["lora", "ia3", "prefix_tuning", "prompt_tuning"] = Field(description="How to adapt.")
    r: int | None = Field(default=None, ge=1, description="The rank of LoRA's matrices; 8 by default.")
    lora_alpha: float | None = Field(default=None, gt=0, description="LoRA's updates are scaled by lora_alpha / r.")
    lora_dropout: float | None = Field(default=None, ge=0, lt=1, description="Dropout before LoRA's matrices.")
    use_dora: bool | None = Field(default=None, description="Decompose weights into magnitude and direction (DoRA).")
    use_rslora: bool | None = Field(default=None, description="Scale by lora_alpha / sqrt(r) (rank stabilization).")
    target_modules: str | list[str] | None = Field(
        default=None,
        min_length=1,
        description="Modules to adapt: ends of their names, `all-linear`, or one regular expression.",
    )
    feedforward_modules: list[str] | None = Field(
        default=None, min_length=1, description="Those of target_modules whose inputs IA3 scales."
    )
    modules_to_save: list[str] | None = Field(
        default=None, min_length=1, description="Modules to train and keep whole, besides the head."
    )
    num_virtual_tokens: int | None = Field(
        default=None, ge=1, description="How many tokens are learned; 20 by default."
    )
    prefix_projection: bool | None = Field(default=None, description="Learn the prefix through a small network.")
    parity: Literal["merged"] | None = Field(
        default=None, description="Judge the model with the adapter merged into its weights."
    )
    max_difference: float | None = Field(
        default=None, gt=0, description="The most that its outputs may differ from the adapter's."
    )


class Peft(Technique):
    """The base is frozen; load and save know of it no more than what the run's key has."""

    name = "peft"
    description = "Train an adapter (LoRA, IA3, prefix or prompt tuning) beside the frozen checkpoint."
    options = PeftOptions
    short = "method"
    tasks = tuple(TASK_TYPES)
    libraries = ("peft",)
    keeps = True
    excludes: ClassVar[Mapping[str, str]] = {
        "init_from": "an adapter is kept without the model under it; train the parent's checkpoint on"
    }

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__(given)
        self._adapter_bytes = 0

    @classmethod
    def gates(cls, given: Mapping[str, Any]) -> Mapping[str, float]:
        return {} if given["max_difference"] is None else {"parity_difference": given["max_difference"]}

    def problems(self, facts: Facts) -> Iterator[Problem]:
        method = self.given["method"]
        for name, value in self.given.items():
            if value is not None and name not in (*METHODS[method], *JUDGING, "method"):
                methods = ", ".join(known for known, options in METHODS.items() if name in options)
                yield (name,), f"is an option of {methods}, not of {method}"
        if method in PROMPTS and facts.task_options.get("packing"):
            yield (), f"{method} stands before a text, and can't before each of those that task.packing joins"
        if self.given["parity"] is None:
            if self.given["max_difference"] is not None:
                yield ("max_difference",), "is between the merged model and the adapter; it needs parity: merged"
        elif method not in MERGES:
            yield ("parity",), f"{method} changes no weights that it could be merged into; leave it out"
        elif (facts.techniques.get("quantization") or {}).get("load"):
            yield ("parity",), "can't be combined with quantization.load: merging would round to the quantized weights"

    def train_key(self, identifier: Identifier, case: Case) -> dict[str, Any]:
        return {name: value for name, value in self.given.items() if name not in JUDGING and value is not None}

    def predict_key(self, identifier: Identifier, case: Case) -> dict[str, Any]:
        """Not the gate: how much two models differ is measured, whatever is allowed."""
        return {"parity": self.given["parity"]} if self.given["parity"] is not None else {}

    def adapt(self, model: Any, context: Context) -> Any:
        """Raises TechniqueError for modules that aren't there, and whatever else peft refuses."""
        peft = need("peft", "peft")
        self._refuse_unknown(model)
        if self.given["method"] in PROMPTS and context.task.name == "text-classification" and _is_pair(model):
            raise TechniqueError(
                f"peft: {type(model).__name__} can't be told by {self.given['method']}: of encoder-decoders, peft "
                f"knows only those that write; methods that work: {', '.join(MERGES)}"
            )
        with _translated():
            return _aligned(peft.get_peft_model(model, self._config(model, context)))

    def judged(self, model: Any, context: Context) -> Any:
        self._adapter_bytes = sum(tensor.numel() * tensor.element_size() for tensor in _state(model).values())
        if self.given["parity"] is None:
            return model
        with _translated():
            return deepcopy(model).merge_and_unload(safe_merge=True).eval()

    @property
    def afterwards(self) -> bool:
        return self.given["parity"] is not None

    @property
    def compares(self) -> bool:
        return self.given["parity"] is not None

    @property
    def measures(self) -> Collection[str]:
        return (*super().measures, "adapter_bytes")

    def costs(self, model: Any, context: Context) -> dict[str, float]:
        found = {"adapter_bytes": float(self._adapter_bytes)}
        if self.given["parity"] is not None:
            found["model_bytes"] = float(bytes_of(model))
        return found

    def save(self, model: Any, directory: Path, context: Context) -> None:
        from safetensors.torch import save_file

        save_file(_state(model), directory / "adapter_model.safetensors")
        config = copy(model.peft_config["default"])
        checkpoint = context.job.case.checkpoint
        # A folder's path would mean nothing elsewhere: what the folder held is in the run's key.
        config.base_model_name_or_path = None if checkpoint.local else checkpoint.path
        config.revision = None if checkpoint.local else context.job.checkpoint_revision
        config.inference_mode = True
        config.save_pretrained(str(directory))

    def load(self, directory: Path, context: Context) -> Any:
        peft = need("peft", "peft")
        try:
            return _aligned(peft.PeftModel.from_pretrained(context.load_base(), str(directory)))
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise CheckpointError(f"{directory}: the adapter can't be read: {shown(error, 300)}") from error

    def _config(self, model: Any, context: Context) -> Any:
        peft = need("peft", "peft")
        kinds = {
            "lora": peft.LoraConfig,
            "ia3": peft.IA3Config,
            "prefix_tuning": peft.PrefixTuningConfig,
            "prompt_tuning": peft.PromptTuningConfig,
        }
        method = self.given["method"]
        options = {name: self.given[name] for name in METHODS[method] if self.given[name] is not None}
        if method in PROMPTS:
            options.setdefault("num_virtual_tokens", VIRTUAL_TOKENS)
        task_type = TASK_TYPES[context.task.name]
        if method == "prompt_tuning" and task_type == "SEQ_2_SEQ_LM":
            options["num_transformer_submodules"] = 1  # the encoder alone reads the prompt, as in its paper
        if not task_type.endswith("_LM"):
            options["modules_to_save"] = [*heads(model), *(self.given["modules_to_save"] or ())]
        return kinds[method](task_type=task_type, **options)

    def _refuse_unknown(self, model: Any) -> None:
        """peft adapts those that it finds of several names, without a word about the others."""
        names = [name for name, _ in model.named_modules() if name]
        ends = {name.rpartition(".")[2] for name in names}
        for option in ("target_modules", "feedforward_modules", "modules_to_save"):
            given = self.given[option] or ()
            if isinstance(given, str):
                if given != ALL_LINEAR and not _matches(given, names):
                    raise TechniqueError(
                        f"peft.{option}: no module's whole name matches the regular expression {shown(given, 80)!r}; "
                        f"write a list to name modules by their ends, such as [{', '.join(sorted(ends)[:2])}]"
                    )
                continue
            for wanted in given:
                if not any(f".{name}".endswith(f".{wanted}") for name in names):
                    raise TechniqueError(
                        f"peft.{option}: {type(model).__name__} has no module {shown(wanted, 80)!r}; "
                        f"{one_of(wanted, ends)}"
                    )


def _matches(expression: str, names: Collection[str]) -> bool:
    try:
        return any(re.fullmatch(expression, name) for name in names)
    except re.error as error:
        raise TechniqueError(
            f"peft.target_modules: {shown(expression, 80)!r} is no regular expression: {error}"
        ) from None


def _is_pair(model: Any) -> bool:
    return bool(getattr(model.config, "is_encoder_decoder", False))


def _state(model: Any) -> dict[str, Any]:
    """The adapter's weights, and those of the modules that are kept whole."""
    peft = need("peft", "peft")
    found = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}


def _aligned(model: Any) -> Any:
    """The model whose outputs by token are those of the text: prompt tuning's tokens stand before it."""
    config = model.peft_config["default"]
    if config.peft_type != "PROMPT_TUNING" or config.task_type in ("SEQ_CLS", "SEQ_2_SEQ_LM"):
        return model
    prompt = config.num_virtual_tokens

    def without_prompt(module: Any, given: Any, output: Any) -> Any:
        for name in ("logits", "start_logits", "end_logits"):
            if output.get(name) is not None:
                output[name] = output[name][:, prompt:].contiguous()
        return output

    model.register_forward_hook(without_prompt)
    return model


@contextmanager
def _translated() -> Iterator[None]:
    """What peft raises for a model that it can't adapt, in one sentence."""
    try:
        yield
    except FtcheckError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, RuntimeError) as error:
        raise TechniqueError(f"peft refuses this: {shown(' '.join(str(error).split()), 300)}") from error
