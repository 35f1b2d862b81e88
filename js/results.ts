// Answers as the page gets them: the boundary's bytes become typed arrays.

import type { WireForwardOutput, WireSampleOutput, WireTensor } from "./boundary.js";
import { float32s, int32s, int64s } from "./numbers.js";
import type { ForwardBackwardOutput, SampleOutput, Tensor } from "./types.js";

export function forwardOutput({ lossFnOutputs, ...rest }: WireForwardOutput): ForwardBackwardOutput {
  return {
    ...rest,
    lossFnOutputs: lossFnOutputs.map(
      (fields) =>
        Object.fromEntries(
          Object.entries(fields).map(([name, field]) => [name, tensor(field)]),
        ) as ForwardBackwardOutput["lossFnOutputs"][number],
    ),
  };
}

export function sampleOutput(answer: WireSampleOutput): SampleOutput {
  const { sequences, promptLogprobs, topkPromptLogprobs: topk } = answer;
  return {
    sequences: sequences.map(({ tokens, logprobs, stopReason, sequenceId }) => ({
      tokens: int32s(tokens),
      ...(logprobs && { logprobs: float32s(logprobs) }),
      stopReason,
      ...(sequenceId !== undefined && { sequenceId }),
    })),
    ...(promptLogprobs && { promptLogprobs: float32s(promptLogprobs) }),
    ...(topk && {
      topkPromptLogprobs: { ...topk, tokenIds: int32s(topk.tokenIds), logprobs: float32s(topk.logprobs) },
    }),
  };
}

function tensor({ dtype, shape, data }: WireTensor): Tensor {
  return { data: dtype === "int64" ? int64s(data) : float32s(data), dtype, shape };
}
