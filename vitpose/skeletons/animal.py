"""The 17 keypoints of four-legged animals."""

from vitpose.skeletons.human import Skeleton

AP10K_17 = Skeleton(
    name="ap10k",
    # Names of the published files; mmpose writes L_Eye, L_F_Paw, Root of tail.
    keypoints=(
        "left_eye", "right_eye", "nose", "neck", "root_of_tail",
        "left_shoulder", "left_elbow", "left_front_paw",
        "right_shoulder", "right_elbow", "right_front_paw",
        "left_hip", "left_knee", "left_back_paw", "right_hip", "right_knee", "right_back_paw",
    ),
    flip_pairs=((0, 1), (5, 8), (6, 9), (7, 10), (11, 14), (12, 15), (13, 16)),
    # Those of mmpose and the official ViTPose code: COCO's, of the joint that is nearest in kind.
    sigmas=(
        0.025, 0.025, 0.026, 0.035, 0.035, 0.079, 0.072, 0.062, 0.079, 0.072, 0.062,
        0.107, 0.087, 0.089, 0.107, 0.087, 0.089,
    ),
    limbs=(
        (0, 1), (0, 2), (1, 2), (2, 3), (3, 4), (3, 5), (5, 6), (6, 7), (3, 8), (8, 9), (9, 10),
        (4, 11), (11, 12), (12, 13), (4, 14), (14, 15), (15, 16),
    ),
    upper_body=(0, 1, 2, 3, 5, 6, 7, 8, 9, 10),
)  # fmt: skip
"""AP-10K (Yu et al., NeurIPS 2021) and APT-36K (Yang et al., NeurIPS 2022), which has the same.

The names say less than they seem to: where an animal walks on its toes, "hip" is its knee and "knee" its
ankle (the dataset's README, question 4). So none of them is a person's joint.
"""
