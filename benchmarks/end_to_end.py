"""Image and boxes to keypoints, whole, beside Hugging Face: equal weights, one process, one thread.

    python -m benchmarks.end_to_end [--size small] [--boxes 64] [--rounds 3] [--head classic]

Theirs is processor, model and post-processing as their documentation has it, all boxes in one batch;
ours is `PosePredictor`. Random weights: the time is real, the keypoints mean nothing
(`benchmarks.differences` compares those of trained weights).
"""

import argparse
import copy

import torch
import transformers

from benchmarks.crops import people_boxes, picture
from benchmarks.peers import hugging_face, ours
from benchmarks.timing import one_thread, ratios, why_no_bfloat16
from vitpose.inference import PosePredictor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="small", help="small, base, large or huge")
    parser.add_argument("--head", default="classic", help="classic or simple")
    parser.add_argument("--boxes", type=int, default=64, help="boxes in the picture")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count")
    arguments = parser.parse_args()
    one_thread()
    transformers.utils.logging.disable_progress_bar()
    image, bboxes = picture(), people_boxes(arguments.boxes)
    theirs = hugging_face(arguments.size, arguments.head)
    processor = transformers.VitPoseImageProcessor()
    mine = ours(theirs)

    def their_path() -> object:
        with torch.inference_mode():
            inputs = processor(image, boxes=[bboxes.tolist()], return_tensors="pt")
            outputs = theirs(**inputs)
            return processor.post_process_pose_estimation(outputs, boxes=[bboxes.tolist()])

    predictor = PosePredictor(mine)
    run = {f"ViTPose-{arguments.size} {arguments.head}, fp32": lambda: predictor(image, bboxes)}
    if reason := why_no_bfloat16():
        print(reason)
    else:
        casting = PosePredictor(mine, dtype=torch.bfloat16)
        cast = PosePredictor(copy.deepcopy(mine).to(torch.bfloat16))
        run[f"ViTPose-{arguments.size} {arguments.head}, bf16 autocast"] = lambda: casting(image, bboxes)
        run[f"ViTPose-{arguments.size} {arguments.head}, bf16 weights"] = lambda: cast(image, bboxes)
    print(f"{arguments.boxes} boxes of a picture of 640 x 480, one thread, CPU time")
    ratios(their_path, run, arguments.rounds)


if __name__ == "__main__":
    main()
