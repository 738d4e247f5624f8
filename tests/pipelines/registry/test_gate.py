"""The gate's laws."""

import pytest

from pipelines.registry.gate import GateConfig, SanityConfig, decide

CONFIG = GateConfig(
    minimum_AP=0.5, margin_AP=0.01, max_slice_drop=0.05, max_slowdown=2.0, max_export_difference=1e-5
)


def metrics(AP: float, **changes: object) -> dict[str, object]:
    return {
        "AP": AP,
        "data_digest": "a" * 64,
        "weights_digest": f"weights of {AP}",
        "slices": {"one_person": AP + 0.1, "crowded": AP - 0.1},
        "images_per_second": 100.0,
        "export_difference": 0.0,
        "repeated": 1.0,
        "calibration": {"person_error": 0.1, "keypoint_error": 0.2},
        "model_bytes": 1000,
        "trembling": 2.0,
        "skeleton": "coco (1234)",
        "preprocessing": "crops of 256x192",
        "protocol": {"flip_test": True},
        **changes,
    }


def test_first_model_needs_only_the_minimum():
    assert decide(metrics(0.5), None, CONFIG).promoted
    refused = decide(metrics(0.499), None, CONFIG)
    assert not refused.promoted
    assert "0.499" in refused.reason and "0.5" in refused.reason


def test_accepts_a_better_model_and_shows_every_rule():
    decision = decide(metrics(0.71), metrics(0.70), CONFIG)
    assert decision.promoted
    assert "0.71" in decision.reason and "0.7 " in decision.reason
    assert set(decision.figures) == {
        "minimum AP", "export_difference", "AP", "slice one_person", "slice crowded",
        "images_per_second", "repeated", "calibration person_error", "calibration keypoint_error",
        "model_bytes", "trembling on video", "skeleton", "preprocessing",
    }  # fmt: skip
    assert all(rule["passed"] for rule in decision.figures.values())


def test_a_head_of_the_champion_may_not_be_lost():
    def with_head(AP, head, people=40):
        return metrics(AP, heads={"lsp": {"AP": head, "instances": people}})

    champion = with_head(0.7, 0.5)
    assert decide(with_head(0.75, 0.46), champion, CONFIG).promoted
    worse = decide(with_head(0.75, 0.44), champion, CONFIG)
    assert not worse.promoted and worse.reason.startswith("head lsp: AP 0.44 against 0.5 of the champion")
    assert decide(with_head(0.75, 0.1, people=2), champion, CONFIG).promoted  # they say nothing
    without = decide(metrics(0.75), champion, CONFIG)
    assert (
        not without.promoted
        and "head lsp: the model has none, the champion's has AP 0.5" in without.reason
    )
    assert decide(with_head(0.75, 0.1), metrics(0.7), CONFIG).promoted


@pytest.mark.parametrize(("AP", "promoted"), [(0.7, False), (0.7099, False), (0.71, True), (0.5, False)])
def test_the_margin_is_inclusive_and_equal_is_not_better(AP, promoted):
    assert decide(metrics(AP), metrics(0.70), CONFIG).promoted is promoted


def test_equal_is_not_better_even_with_a_margin_of_zero():
    config = GateConfig(minimum_AP=0.0, margin_AP=0.0)
    assert not decide(metrics(0.7), metrics(0.7, weights_digest="other"), config).promoted


def test_refuses_figures_of_other_data_whatever_they_are():
    refused = decide(metrics(0.99), metrics(0.5, data_digest="b" * 64), CONFIG)
    assert not refused.promoted
    assert "other data" in refused.reason and "bbbbbbbbbbbb" in refused.reason


def test_refuses_another_protocol():
    refused = decide(metrics(0.9, protocol={"flip_test": False}), metrics(0.5), CONFIG)
    assert not refused.promoted
    assert "flip_test False against True" in refused.reason


def test_refuses_the_champion_itself():
    own = metrics(0.9, weights_digest="weights of 0.5")
    assert "own weights" in decide(own, metrics(0.5), CONFIG).reason


def test_refuses_a_slice_drop_although_the_whole_is_better():
    candidate = metrics(0.8, slices={"one_person": 0.95, "crowded": 0.54})
    decision = decide(candidate, metrics(0.7), CONFIG)
    assert not decision.promoted
    assert decision.reason.startswith("slice crowded")
    assert not decision.figures["slice crowded"]["passed"]
    assert decision.figures["slice one_person"]["passed"]


def test_a_slice_that_was_measured_must_be_measured_again():
    assert not decide(metrics(0.8, slices={"one_person": 0.9}), metrics(0.7), CONFIG).promoted
    empty = metrics(0.7, slices={"one_person": 0.8, "crowded": -1.0})  # COCO's figure for no people
    assert decide(metrics(0.8, slices={"one_person": 0.9}), empty, CONFIG).promoted


def test_a_slice_of_a_few_people_does_not_decide():
    slices = {"one_person": 0.95, "crowded": 0.1}
    few = metrics(0.8, slices=slices, slice_instances={"one_person": 300, "crowded": 29})
    many = metrics(0.8, slices=slices, slice_instances={"one_person": 300, "crowded": 30})
    assert decide(few, metrics(0.7), CONFIG).promoted
    assert not decide(many, metrics(0.7), CONFIG).promoted


def test_refuses_a_model_that_is_too_slow():
    assert decide(metrics(0.8, images_per_second=50.0), metrics(0.7), CONFIG).promoted
    refused = decide(metrics(0.8, images_per_second=49.0), metrics(0.7), CONFIG)
    assert not refused.promoted and "49 images/s" in refused.reason


def test_refuses_what_came_back_changed_or_was_never_compared():
    assert not decide(metrics(0.8, export_difference=1e-3), None, CONFIG).promoted
    assert not decide(metrics(0.8, export_difference=None), None, CONFIG).promoted
    assert not decide(metrics(0.8, export_difference=float("nan")), None, CONFIG).promoted


def gain(value: float, low: float, high: float) -> dict[str, object]:
    return {"AP_difference": {"value": value, "low": low, "high": high, "level": 0.95}}


def test_without_a_margin_a_gain_must_be_beyond_chance():
    config = GateConfig(minimum_AP=0.5)
    lucky = decide(metrics(0.72, **gain(0.02, -0.01, 0.05)), metrics(0.7), config)
    assert not lucky.promoted and "no gain beyond chance (+0.0200, 95% interval -0.0100" in lucky.reason
    assert decide(metrics(0.72, **gain(0.02, 0.01, 0.05)), metrics(0.7), config).promoted
    assert not decide(metrics(0.68, **gain(-0.02, -0.05, -0.01)), metrics(0.7), config).promoted
    unknown = decide(metrics(0.72), metrics(0.7), config)
    assert not unknown.promoted and "no interval of the gain" in unknown.reason
    assert decide(
        metrics(0.72, **gain(0.02, -0.01, 0.05)), metrics(0.7), CONFIG
    ).promoted  # a margin says


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"repeated": 0.9}, "finds 90% of the keypoints"),
        ({"repeated": None}, "nobody has run the model again"),
        ({"repeated": float("nan")}, "they are not this model's"),
        ({"calibration": {"person_error": 0.21, "keypoint_error": 0.2}}, "calibration person_error 0.21"),
        ({"calibration": {}}, "calibration keypoint_error not measured"),
        ({"trembling": 4.1}, "on video its keypoints tremble by 4.1 against 2 of the champion"),
        ({"trembling": None}, "tremble by not measured"),
        ({"trembling": float("nan")}, "keypoints tremble by nan"),
        ({"model_bytes": 16001}, "1.6e+04 bytes of weights against 1000"),
        ({"skeleton": "lsp (5678)"}, "skeleton lsp (5678) is not the champion's coco (1234)"),
        ({"preprocessing": "crops of 128x96"}, "allow it with --allow preprocessing"),
    ],
)
def test_a_better_model_that_is_not_what_the_champion_s_users_expect(changes, reason):
    refused = decide(metrics(0.8, **changes), metrics(0.7), CONFIG)
    assert not refused.promoted and reason in refused.reason


def test_a_form_that_is_far_missing_or_could_not_be_written_is_refused():
    near, far = {"difference": 1e-5, "limit": 1e-4}, {"difference": 1e-3, "limit": 1e-4}
    broken = {"difference": None, "limit": None, "reason": "onnx is not installed"}
    assert decide(metrics(0.5, exports={"onnx": near}), None, CONFIG).promoted
    for exports, told in (
        ({"onnx": far}, "exported form onnx: 0.001 from the model"),
        ({"onnx": broken}, "exported form onnx: onnx is not installed"),
        ({}, "exported form onnx: it carries none, and the champion does"),
    ):
        refused = decide(metrics(0.8, exports=exports), metrics(0.7, exports={"onnx": near}), CONFIG)
        assert not refused.promoted and told in refused.reason


def test_the_fixed_set_is_found_by_every_champion_the_first_included():
    config = GateConfig(minimum_AP=0.5, sanity=SanityConfig(annotations="a", images="i"))
    assert decide(metrics(0.8, sanity=0.5), None, config).promoted
    assert "OKS 0.49 (at least 0.5)" in decide(metrics(0.8, sanity=0.49), None, config).reason
    assert not decide(metrics(0.8), None, config).promoted


def test_a_limit_on_what_changes_for_the_readers_of_labels():
    config = GateConfig(minimum_AP=0.5, margin_AP=0.01, shadow=0.1)
    assert decide(metrics(0.8, apart=0.1), metrics(0.7), config).promoted
    refused = decide(metrics(0.8, apart=0.11), metrics(0.7), config)
    assert not refused.promoted and "11.0% of the keypoints are elsewhere" in refused.reason
    assert not decide(metrics(0.8), metrics(0.7), config).promoted
    assert decide(metrics(0.8), None, config).promoted  # the first has nobody to differ from


def test_what_is_allowed_may_change_and_nothing_else():
    changed = metrics(0.8, preprocessing="crops of 128x96", skeleton="lsp (5678)")
    limits = {"minimum_AP": 0.5, "margin_AP": 0.01}
    assert decide(
        changed, metrics(0.7), GateConfig(**limits, allow=("preprocessing", "skeleton"))
    ).promoted
    assert not decide(changed, metrics(0.7), GateConfig(**limits, allow=("preprocessing",))).promoted
    with pytest.raises(ValueError, match="allow has 'AP'; expected skeleton or preprocessing"):
        GateConfig(allow=("AP",))


def test_nan_never_passes():
    assert not decide(metrics(float("nan")), None, CONFIG).promoted
    assert not decide(metrics(float("nan")), metrics(0.7), CONFIG).promoted


def test_every_failure_is_in_the_reason():
    bad = metrics(0.4, images_per_second=1.0, export_difference=1.0)
    reason = decide(bad, metrics(0.7), CONFIG).reason
    for part in ("below 0.5", "heatmaps differ", "does not exceed", "slice crowded", "images/s"):
        assert part in reason


def test_many_slices_are_one_clause_that_names_the_worst():
    names = [f"slice_{i}" for i in range(9)]
    before = metrics(0.7, slices=dict.fromkeys(names, 0.8))
    after = metrics(0.8, slices={**dict.fromkeys(names, 0.7), "slice_4": 0.1})
    reason = decide(after, before, CONFIG).reason
    assert reason.startswith("9 slices lost more than 0.05, most of all slice slice_4: AP 0.1")
    assert "slice_5" not in reason


def test_metrics_without_AP_are_an_error_not_a_refusal():
    with pytest.raises(ValueError, match="'AP'"):
        decide({"data_digest": "x"}, None, CONFIG)


@pytest.mark.parametrize("limits", [{"minimum_AP": 50.0}, {"max_slowdown": 0.5}, {"margin_AP": -1}])
def test_limits_out_of_range_are_refused(limits):
    with pytest.raises(ValueError, match=next(iter(limits))):
        GateConfig(**limits)
