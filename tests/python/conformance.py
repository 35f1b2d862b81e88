"""Trains, saves, resumes, samples and manages checkpoints with the official Python client, and prints what it saw.

    conformance.py URL

What it does stands in plan.json beside it, so that another client can do the same; numbers are printed as the hexadecimal
digits of their bits, so that the two can be compared bit for bit: float64 for metrics, float32 for log-probabilities.
Runs with the Python of a venv that holds tinker==0.38.0.
"""

import json
import pathlib
import struct
import sys

import tinker
from tinker import types


def bits64(number):
    return struct.pack(">d", number).hex()


def bits32(numbers):
    return [struct.pack(">f", number).hex() for number in numbers]


def train(client, plan, steps):
    data = [
        types.Datum(
            model_input=types.ModelInput.from_ints(datum["tokens"]),
            loss_fn_inputs={"target_tokens": datum["targets"], "weights": datum["weights"]},
        )
        for datum in plan["data"]
    ]
    adam = types.AdamParams(learning_rate=plan["learning_rate"])
    # Each step is called before the one before it has ended: the order must hold all the same.
    calls = [(client.forward_backward(data, "cross_entropy"), client.optim_step(adam)) for _ in range(steps)]
    losses = []
    for passed, stepped in calls:
        metrics = passed.result().metrics
        stepped.result()
        losses.append(bits64(metrics["loss:sum"]))
    forward = client.forward(data, "cross_entropy").result()
    logprobs = [bits32(output["logprobs"].data) for output in forward.loss_fn_outputs]
    return {"losses": losses, "final_loss": bits64(forward.metrics["loss:sum"]), "logprobs": logprobs}


def sample(client, plan):
    prompt = types.ModelInput.from_ints(plan["prompt"])
    params = types.SamplingParams(**plan["sample"])
    response = client.sample(prompt, num_samples=plan["samples"], sampling_params=params).result()
    scored = client.compute_logprobs(prompt).result()
    assert scored[0] is None, "the first token of a prompt has no log-probability"
    assert len({s.sequence_id for s in response.sequences}) == plan["samples"], "each sequence has an id of its own"
    return {
        "sequences": [
            {"tokens": s.tokens, "logprobs": bits32(s.logprobs), "stop_reason": s.stop_reason}
            for s in response.sequences
        ],
        "prompt_logprobs": bits32(scored[1:]),
    }


def paths(checkpoints):
    return sorted(checkpoint.tinker_path for checkpoint in checkpoints)


def main():
    plan = json.loads((pathlib.Path(__file__).parent / "plan.json").read_text())
    seen = {}
    with tinker.ServiceClient(base_url=sys.argv[1], api_key="tml-conformance") as service:
        rest = tinker.RestClient(base_url=sys.argv[1], api_key="tml-conformance")
        served = rest.get_server_capabilities().result().supported_models
        seen["base_model_is_served"] = plan["base_model"] in [model.model_name for model in served]

        half = plan["steps"] // 2
        first = service.create_lora_training_client(plan["base_model"], rank=plan["rank"], seed=plan["seed"]).result()
        info = first.get_info()
        seen["info"] = {
            "model_name": info.model_data.model_name,
            "lora_rank": info.lora_rank,
            "is_lora": info.is_lora,
        }
        seen["first_half"] = train(first, plan, half)
        saved = first.save_state("half").result().path
        seen["second_half"] = train(first, plan, plan["steps"] - half)
        seen["trained"] = sample(first.save_weights_and_get_sampling_client().result(), plan)

        # Resumed from the middle, optimizer and all, the second half is the same again.
        resumed = service.create_training_client_from_state_with_optimizer(saved).result()
        seen["resumed_half"] = train(resumed, plan, plan["steps"] - half)
        named = resumed.save_weights_for_sampler("samples").result().path
        seen["resumed"] = sample(service.create_sampling_client(model_path=named).result(), plan)
        seen["base"] = sample(service.create_sampling_client(base_model=plan["base_model"]).result(), plan)

        # Without the optimizer's state the weights are the same, and the steps are not.
        restarted = service.create_training_client_from_state(saved).result()
        seen["restarted_half"] = train(restarted, plan, plan["steps"] - half)

        run = first.get_info().model_id
        ours = {run, resumed.get_info().model_id, restarted.get_info().model_id}
        seen["weights_info"] = rest.get_weights_info_by_tinker_path(saved).result().base_model
        listed = {item.training_run_id for item in rest.list_training_runs().result().training_runs}
        seen["runs_are_listed"] = ours <= listed
        seen["listed"] = paths(rest.list_checkpoints(run).result().checkpoints) == [saved]
        everywhere = paths(rest.list_user_checkpoints().result().checkpoints)
        seen["listed_everywhere"] = saved in everywhere and named in everywhere
        rest.delete_checkpoint_from_tinker_path(saved).result()
        seen["left_after_delete"] = paths(rest.list_checkpoints(run).result().checkpoints)
        try:
            service.create_training_client_from_state(saved).result()
            seen["deleted_checkpoint"] = "was loaded"
        except Exception as error:
            seen["deleted_checkpoint"] = f"{type(error).__name__}: {error}"
        try:
            service.create_lora_training_client("no/such-model").result()
            seen["unknown_model"] = "was created"
        except Exception as error:
            seen["unknown_model"] = f"{type(error).__name__}: {error}"
    print(json.dumps(seen))


main()
