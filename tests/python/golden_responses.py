"""Response bodies of every kind, made with the official Python client's own types, for the codecs to be held against.

    golden_responses.py write FILE   makes the golden file
    golden_responses.py check FILE   makes it again and compares
    golden_responses.py read FILE WRITTEN
                                     checks that the client's types read the same values out of WRITTEN, where another
                                     implementation wrote what it made of each line of FILE

Runs with the Python of a venv that holds tinker==0.38.0.
"""

import base64
import json
import math
import sys

import numpy as np
from pydantic import TypeAdapter
from tinker import types
from tinker.proto import tinker_public_pb2 as pb
from tinker.proto.response_conv import deserialize_proto_response
from tinker.types import billing_usage_response as billing
from tinker.types import session_status as status
from tinker.types.audit_log_entry import AuditLogEntry
from tinker.types.audit_log_response import AuditLogResponse
from tinker.types.auth_token_response import AuthTokenResponse
from tinker.types.client_config_response import ClientConfigResponse
from tinker.types.client_dynamic_config_response import ClientDynamicConfigResponse
from tinker.types.copy_weights_response import CopyWeightsResponse
from tinker.types.create_custom_loss_response import CreateCustomLossResponse
from tinker.types.create_model_response import CreateModelResponse
from tinker.types.create_sampling_session_response import CreateSamplingSessionResponse
from tinker.types.create_session_response import CreateSessionResponse
from tinker.types.current_checkpoint_storage_usage_response import (
    CurrentCheckpointStorageUsageItem,
    CurrentCheckpointStorageUsageResponse,
)
from tinker.types.external_weights_urls_response import ExternalWeightsUrlsResponse
from tinker.types.futures_retrieve_response import FuturesRetrieveResponse
from tinker.types.get_info_response import GetInfoResponse
from tinker.types.get_sampler_response import GetSamplerResponse
from tinker.types.get_session_response import GetSessionResponse
from tinker.types.health_response import HealthResponse
from tinker.types.join_sampling_session_response import JoinSamplingSessionResponse
from tinker.types.list_sessions_response import ListSessionsResponse
from tinker.types.load_weights_response import LoadWeightsResponse
from tinker.types.optimizer import DimuonOptimizerConfig
from tinker.types.request_failed_response import RequestFailedResponse
from tinker.types.save_weights_external_response import SaveWeightsExternalResponseInternal
from tinker.types.save_weights_for_sampler_response import SaveWeightsForSamplerResponseInternal
from tinker.types.session_heartbeat_response import SessionHeartbeatResponse
from tinker.types.session_search_cursor import SessionSearchCursor
from tinker.types.session_search_response import SessionSearchResponse
from tinker.types.session_summary import SessionSummary
from tinker.types.shared.untyped_api_future import UntypedAPIFuture
from tinker.types.telemetry_response import TelemetryResponse
from tinker.types.try_again_response import TryAgainResponse
from tinker.types.unload_model_response import UnloadModelResponse
from tinker.types.weights_info_response import WeightsInfoResponse

TIME = "2026-11-23T08:48:09.944802Z"
LATER = "2027-01-01T00:00:00Z"
METADATA = {"experiment": "7", "näme": "ünïcode"}


def checkpoint(**more):
    return {
        "checkpoint_id": "weights/a",
        "checkpoint_type": "training",
        "time": TIME,
        "tinker_path": "tinker://run-1/weights/a",
        **more,
    }


def run(**more):
    return {
        "training_run_id": "run-1",
        "base_model": "base",
        "model_owner": "owner",
        "is_lora": True,
        "last_request_time": TIME,
        **more,
    }


def summary(**more):
    return {
        "session_id": "session-1",
        "created_at": TIME,
        "owner": "owner",
        "project_id": "project",
        "checkpoints_count": 2,
        **more,
    }


def event(info, **more):
    return {"bucket_start": TIME, "bucket_end": LATER, "event_info": info, **more}


# Kind, the client's type, and what its instances are made of.
JSON = [
    ("Flags", ClientConfigResponse, [{}, {"fwdbwd_max_chunk_len": 7, "parallel_fwdbwd_chunks": False}]),
    ("DynamicFlags", ClientDynamicConfigResponse, [{}, {"sample_cancel_enabled": True}]),
    ("AuthTokenResponse", AuthTokenResponse, [{"jwt": "eyJhbGciOiJub25lIn0.e30."}]),
    ("HealthResponse", HealthResponse, [{"status": "ok"}]),
    (
        "ServerCapabilities",
        types.GetServerCapabilitiesResponse,
        [
            {
                "supported_models": [
                    {"model_name": "a", "max_context_length": 32768, "trainable": True, "sampleable": True},
                    {},
                ]
            }
        ],
    ),
    (
        "CreateSessionResponse",
        CreateSessionResponse,
        [
            {"session_id": "session-1"},
            {"session_id": "session-1", "info_message": "i", "warning_message": "w", "error_message": "e"},
        ],
    ),
    ("SessionHeartbeatResponse", SessionHeartbeatResponse, [{}]),
    ("CreateSamplingSessionResponse", CreateSamplingSessionResponse, [{"sampling_session_id": "sampling-1"}]),
    ("JoinSamplingSessionResponse", JoinSamplingSessionResponse, [{"client_counter": 0}, {"client_counter": 2**40}]),
    (
        "Sampler",
        GetSamplerResponse,
        [
            {"sampler_id": "sampling-1", "base_model": "base"},
            {"sampler_id": "s", "base_model": "base", "model_path": "tinker://run-1/sampler_weights/a"},
        ],
    ),
    (
        "Submitted",
        UntypedAPIFuture,
        [
            {"request_id": "1"},
            {"request_id": "2", "model_id": "model-1"},
            {"request_id": "3", "sample_sequence_ids": ["a", "b"]},
        ],
    ),
    (
        "RetrieveFuturesResponse",
        FuturesRetrieveResponse,
        [
            {"completions": [], "cursor": 0},
            {
                "completions": [
                    {"state": "finished", "request_id": "1", "response_payload_uncompressed_size": 12},
                    {"state": "finished", "request_id": "2"},
                    {"state": "failed", "request_id": "3"},
                ],
                "cursor": 9,
            },
        ],
    ),
    ("TryAgain", TryAgainResponse, [{"request_id": "1", "queue_state": s} for s in ("active", "paused_capacity", "paused_rate_limit")]),
    ("Failed", RequestFailedResponse, [{"error": "why", "category": c} for c in ("user", "server", "unknown")]),
    ("CreateModelResult", CreateModelResponse, [{"model_id": "model-1"}]),
    ("LoadWeightsResult", LoadWeightsResponse, [{}, {"path": "tinker://run-1/weights/a"}]),
    (
        "ModelInfo",
        GetInfoResponse,
        [
            {"model_data": {}, "model_id": "model-1"},
            {
                "model_data": {"arch": "a", "model_name": "base", "tokenizer_id": "base:1"},
                "model_id": "model-1",
                "is_lora": True,
                "lora_rank": 8,
                "model_name": "base",
                "optimizer_config": DimuonOptimizerConfig(),
            },
        ],
    ),
    ("OptimStepResult", types.OptimStepResponse, [{}, {"metrics": {"grad_norm:mean": 0.1, "zero:sum": -0.0, "tiny:max": 5e-324}}]),
    ("SaveWeightsResult", types.SaveWeightsResponse, [{"path": "tinker://run-1/weights/a", "type": "save_weights"}]),
    (
        "SaveWeightsForSamplerResult",
        SaveWeightsForSamplerResponseInternal,
        [{"path": "tinker://run-1/sampler_weights/a"}, {"sampling_session_id": "sampling-1"}],
    ),
    (
        "SaveWeightsExternalResult",
        SaveWeightsExternalResponseInternal,
        [{"path": "tinker://run-1/external_weights/a"}, {"path": "tinker://r/external_weights/a", "size_bytes": 2**40}],
    ),
    ("UnloadModelResult", UnloadModelResponse, [{"model_id": "model-1", "type": "unload_model"}]),
    ("CreateCustomLossResult", CreateCustomLossResponse, [{"loss_id": "loss-1"}]),
    (
        "CheckpointsResponse",
        types.CheckpointsListResponse,
        [
            {"checkpoints": []},
            {
                "checkpoints": [
                    checkpoint(),
                    checkpoint(size_bytes=2**33, public=True, user_metadata=METADATA, expires_at=LATER),
                    checkpoint(checkpoint_type="sampler"),
                    checkpoint(checkpoint_type="external"),
                ],
                "cursor": {"offset": 0, "limit": 100, "total_count": 4},
            },
        ],
    ),
    (
        "TrainingRunsResponse",
        types.TrainingRunsResponse,
        [
            {
                "training_runs": [
                    run(),
                    run(
                        corrupted=True,
                        lora_rank=32,
                        last_checkpoint=checkpoint(),
                        last_sampler_checkpoint=checkpoint(checkpoint_type="sampler"),
                        user_metadata=METADATA,
                    ),
                ],
                "cursor": {"offset": 0, "limit": 20, "total_count": 2},
            }
        ],
    ),
    ("TrainingRun", types.TrainingRun, [run()]),
    ("SessionsResponse", ListSessionsResponse, [{"sessions": ["session-1", "session-2"]}]),
    (
        "SessionResponse",
        GetSessionResponse,
        [
            {"training_run_ids": ["run-1"], "sampler_ids": ["sampling-1"]},
            {"training_run_ids": [], "sampler_ids": [], "user_metadata": METADATA, "display_name": "d"},
        ],
    ),
    (
        "SearchSessionsResponse",
        SessionSearchResponse,
        [
            {"sessions": []},
            {
                "sessions": [
                    summary(),
                    summary(status=status.SessionActive(), display_name="d", user_metadata=METADATA, checkpoint_storage_bytes=1),
                    summary(status=status.SessionCancelled()),
                    summary(status=status.SessionCancelled(detail="why")),
                    *[
                        summary(status=status.ClientSessionFinished(reason=reason))
                        for reason in (
                            status.ClientSessionFinishSuccess(),
                            status.ClientSessionFinishErrored(),
                            status.ClientSessionFinishInterrupted(),
                        )
                    ],
                    *[
                        summary(status=status.SessionFailed(category=category, message="m", reason=reason))
                        for category, reason in (
                            ("user", status.SessionFailedRequestReason(request_id="1", request_type="Sample")),
                            ("internal", status.SessionFailedTrainingRunReason(training_run_id="run-1")),
                            ("internal", status.SessionFailedSamplingSessionReason(sampling_session_id="sampling-1")),
                        )
                    ],
                ],
                "next_cursor": SessionSearchCursor(last_created_at=TIME, last_session_id="session-1"),
            },
        ],
    ),
    (
        "WeightsInfoResponse",
        WeightsInfoResponse,
        [
            {"base_model": "base", "is_lora": True},
            {
                "base_model": "base",
                "is_lora": True,
                "lora_rank": 8,
                "train_unembed": False,
                "train_mlp": True,
                "train_attn": True,
                "optimizer_config": DimuonOptimizerConfig(),
            },
        ],
    ),
    ("CopyWeightsResponse", CopyWeightsResponse, [{"tinker_path": "tinker://run-2/weights/a"}]),
    ("ExternalWeightsUrls", ExternalWeightsUrlsResponse, [{"urls": {"a.safetensors": "https://example.org/a"}, "expires": TIME}]),
    (
        "AuditResponse",
        AuditLogResponse,
        [
            {
                "entries": [
                    AuditLogEntry(timestamp=TIME, event="checkpoint_deleted"),
                    AuditLogEntry(
                        timestamp=TIME,
                        event="e",
                        event_details={"a": None, "b": [1, {"c": 0.5}]},
                        model_id="run-1",
                        tinker_path="tinker://run-1/weights/a",
                        purpose="p",
                    ),
                ]
            }
        ],
    ),
    (
        "UsageEventsResponse",
        billing.BillingUsageResponse,
        [
            {"data": []},
            {
                "data": [
                    event(billing.TrainingBillingEvent(token_count=12), base_model="base", estimated_cost_usd=0.5),
                    event(billing.SamplingPrefillBillingEvent(cached=True, token_count=1)),
                    event(billing.SamplingSampleBillingEvent(token_count=1), effective_rate_usd_per_million_tokens=0.25),
                    event(billing.CheckpointBillingEvent(count=3)),
                    event(billing.StorageBillingEvent(gigabyte_hours=0.125), session_id="session-1", project_id="p"),
                    event(billing.StorageBillingEvent(gigabyte_hours=1.0, free=True), user_id="u", user_name="n"),
                ],
                "sessions": {"session-1": {"user_metadata": METADATA}, "session-2": {}},
                "cost_data_through": LATER,
            },
        ],
    ),
    (
        "CheckpointStorageResponse",
        CurrentCheckpointStorageUsageResponse,
        [
            {
                "effective_rate_usd_per_gigabyte_month": 0.02,
                "data": [
                    CurrentCheckpointStorageUsageItem(checkpoint_count=1, size_bytes=2**33, size_gigabytes=8.0),
                    CurrentCheckpointStorageUsageItem(
                        project_id="p",
                        org_user_urn="urn",
                        user_email="a@example.org",
                        user_name="n",
                        checkpoint_count=0,
                        size_bytes=0,
                        size_gigabytes=0.0,
                        estimated_monthly_cost_usd=0.5,
                    ),
                ],
            }
        ],
    ),
    ("TelemetryResponse", TelemetryResponse, [{"status": "accepted"}]),
]


def le(kind, *numbers):
    return np.asarray(numbers, dtype=kind).tobytes()


def batched(dtype, kind, parts, trailing=()):
    """One field of several data, each a flat list of numbers."""
    pieces = [le(kind, *part) for part in parts]
    ends = np.cumsum([0] + [len(piece) for piece in pieces])
    return pb.BatchedTensor(data=b"".join(pieces), offsets=le("<i8", *ends), dtype=dtype, trailing_shape=trailing)


def record(count, **fields):
    made = pb.ArrayRecord(type_tag="ArrayRecord", num_datums=count)
    for name, field in fields.items():
        made.fields[name].CopyFrom(field)
    return made


def output(*records, metrics=None, kind="tinker:ArrayRecord"):
    made = pb.ForwardBackwardOutput(loss_fn_output_type=kind, loss_fn_outputs=records)
    made.metrics.update(metrics or {})
    return made


def topk(k, ids, logprobs):
    return pb.TopkLogprobs(token_ids=le("<i4", *ids), logprobs=le("<f4", *logprobs), k=k, length=len(ids) // k)


def tensor(dtype, kind, numbers, shape):
    return pb.Tensor(dense=le(kind, *numbers), dtype=dtype, shape=shape)


FLOATS = batched(pb.DTYPE_FLOAT32, "<f4", [[-0.5, -1.25], [-2.0]])
SPARSE = pb.Tensor(
    sparse_csr=pb.SparseCsr(values=le("<f4", -0.5, -1.5), crow_indices=le("<i8", 0, 1, 1, 2), col_indices=le("<i8", 1, 0)),
    dtype=pb.DTYPE_FLOAT32,
    shape=[3, 2],
)
PROTOBUF = [
    ("ForwardBackwardOutput", output(record(2, logprobs=FLOATS), metrics={"loss:sum": 3.75, "nan:max": math.nan})),
    ("ForwardBackwardOutput", output(record(0, logprobs=FLOATS), kind="ArrayRecord")),
    ("ForwardBackwardOutput", output(record(2), metrics={"loss:sum": 1.0})),
    ("ForwardBackwardOutput", output(kind="")),
    (
        "ForwardBackwardOutput",
        output(
            record(
                2,
                half=batched(pb.DTYPE_BFLOAT16, "<u2", [[0x3F80, 0xC000], [0x3E80]]),
                narrow=batched(pb.DTYPE_INT32, "<i4", [[-1, 2], []]),
                wide=batched(pb.DTYPE_INT64, "<i8", [[1, 2, 3, 4], [-(2**62), 0]], [2]),
            )
        ),
    ),
    (
        "ForwardBackwardOutput",
        output(
            record(1, logprobs=batched(pb.DTYPE_FLOAT32, "<f4", [[-1.0, -2.0]], [2])),
            record(1, logprobs=batched(pb.DTYPE_FLOAT32, "<f4", [[-1.0, -2.0, -3.0]], [3])),
        ),
    ),
    (
        "SampleResponse",
        pb.SampleResponse(
            sequences=[
                pb.SampledSequence(stop_reason=pb.STOP_REASON_STOP, tokens=le("<i4", 5, 7), logprobs=le("<f4", -0.5, -1.5)),
                pb.SampledSequence(stop_reason=pb.STOP_REASON_LENGTH, tokens=le("<i4", 5)),
                pb.SampledSequence(),
            ]
        ),
    ),
    (
        "SampleResponse",
        pb.SampleResponse(
            sequences=[
                pb.SampledSequence(
                    tokens=le("<i4", 5, 7),
                    logprobs=le("<f4", -0.5, -1.5),
                    topk_sampled_logprobs=topk(2, [5, 6, 7, 0], [-0.5, -1.0, -1.5, -99999.0]),
                )
            ],
            prompt_logprobs=le("<f4", math.nan, -2.5),
            topk_prompt_logprobs=topk(2, [0, 0, 5, 6], [-99999.0, -99999.0, -0.5, -1.0]),
            prompt_cache_hit_tokens=3,
            target_prompt_logprobs=tensor(pb.DTYPE_FLOAT32, "<f4", [0.0, -0.5], [1, 2]),
            prompt_alt_tokens=pb.PromptAltTokens(
                tokens=tensor(pb.DTYPE_INT64, "<i8", [5, 6], [1, 2]),
                logprobs=tensor(pb.DTYPE_FLOAT32, "<f4", [-0.5, -1.0], [1, 2]),
            ),
        ),
    ),
    (
        "SampleResponse",
        pb.SampleResponse(
            sequences=[pb.SampledSequence(tokens=le("<i4", 1), logprobs=b"", topk_sampled_logprobs=pb.TopkLogprobs())],
            prompt_logprobs=b"",
            target_prompt_logprobs=SPARSE,
        ),
    ),
]
PROTOBUF_TYPES = {"ForwardBackwardOutput": types.ForwardBackwardOutput, "SampleResponse": types.SampleResponse}


def numbers(array):
    """Plain numbers, with None for NaN."""
    flat = np.asarray(array).flatten().tolist()
    return [None if isinstance(n, float) and math.isnan(n) else n for n in flat]


def of_tensor(t):
    plain = {"data": numbers(t._numpy), "dtype": t.dtype, "shape": list(t.shape)}
    if t.sparse_crow_indices is not None:
        plain["sparse_crow_indices"] = t.sparse_crow_indices
        plain["sparse_col_indices"] = t.sparse_col_indices
    return plain


def understood(kind, data):
    """What the client reads out of protobuf bytes, as plain JSON."""
    read = deserialize_proto_response(data, PROTOBUF_TYPES[kind])
    if kind == "ForwardBackwardOutput":
        plain = {
            "loss_fn_output_type": read.loss_fn_output_type,
            "loss_fn_outputs": [{name: of_tensor(t) for name, t in o.items()} for o in read.loss_fn_outputs],
            "metrics": {name: None if math.isnan(m) else m for name, m in read.metrics.items()},
        }
    else:
        sequence = lambda s: {
            "stop_reason": s.stop_reason,
            "tokens": s.tokens,
            "logprobs": s.logprobs,
            "topk_logprobs": s.topk_logprobs,
        }
        alternatives = read.prompt_alt_tokens
        plain = {
            "sequences": [present(sequence(s)) for s in read.sequences],
            "prompt_logprobs": read.prompt_logprobs,
            "topk_prompt_logprobs": read.topk_prompt_logprobs,
            "prompt_cache_hit_tokens": read.prompt_cache_hit_tokens,
            "target_prompt_logprobs": read.target_prompt_logprobs and of_tensor(read.target_prompt_logprobs),
            "prompt_alt_tokens": alternatives
            and {"tokens": of_tensor(alternatives.tokens), "logprobs": of_tensor(alternatives.logprobs)},
        }
    return json.loads(json.dumps(present(plain), allow_nan=False))


def present(fields):
    return {name: value for name, value in fields.items() if value is not None}


def golden():
    for kind, cls, bodies in JSON:
        adapter = TypeAdapter(cls)
        for body in bodies:
            made = adapter.validate_python(body)
            # Null fields are left out, nulls in free maps stay.
            dumped = without_null_fields(made, adapter.dump_python(made, mode="json"))
            # A switch between the Python client's own HTTP stacks, which nobody else has.
            dumped.pop("use_pyqwest_transport", None)
            yield {"kind": kind, "json": dumped}
    for kind, message in PROTOBUF:
        data = message.SerializeToString(deterministic=True)
        yield {"kind": kind, "b64": base64.b64encode(data).decode(), "understood": understood(kind, data)}


def without_null_fields(made, dumped):
    if hasattr(made, "model_dump"):
        fields = type(made).model_fields
        return {
            name: without_null_fields(getattr(made, name), value) if name in fields else value
            for name, value in dumped.items()
            if value is not None
        }
    if isinstance(made, list):
        return [without_null_fields(m, d) for m, d in zip(made, dumped, strict=True)]
    if isinstance(made, dict):
        return {name: without_null_fields(made[name], value) for name, value in dumped.items()}
    return dumped


def line(entry):
    return json.dumps(entry, ensure_ascii=False, sort_keys=True)


def check(path):
    lines = [line(entry) for entry in golden()]
    with open(path, encoding="utf-8") as file:
        held = file.read().splitlines()
    for number, (made, there) in enumerate(zip(lines, held, strict=True), 1):
        assert made == there, f"{path}:{number}: the client makes {made} and the file has {there}"
    print(f"{len(lines)} bodies are as the client makes them")


def read_back(*paths):
    adapters = {kind: TypeAdapter(cls) for kind, cls, _ in JSON}
    originals, written = ([json.loads(text) for text in open(path, encoding="utf-8")] for path in paths)
    assert len(written) == len(originals), f"{len(written)} bodies came back of {len(originals)}"
    for original, body in zip(originals, written, strict=True):
        kind = original["kind"]
        assert body["kind"] == kind, f"{body['kind']} came back in place of {kind}"
        if "json" in original:
            adapter = adapters[kind]
            before, after = (adapter.dump_python(adapter.validate_python(b["json"])) for b in (original, body))
            # An echo of the request's name, which the other implementation may write where this one doesn't.
            if before.get("type", "") is None:
                before["type"] = after["type"]
        else:
            before, after = original["understood"], understood(kind, base64.b64decode(body["b64"]))
        assert before == after, f"{kind}: {before} came back as {after}"
    print(f"{len(written)} bodies are read the same")


def main():
    match sys.argv[1:]:
        case ["write", path]:
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(line(entry) + "\n" for entry in golden())
        case ["check", path]:
            check(path)
        case ["read", path, written]:
            read_back(path, written)
        case _:
            sys.exit(__doc__)


main()
