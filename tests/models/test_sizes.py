import subprocess
import sys

import pytest

from vitpose.models.sizes import SIZES, find_size, size_of_shape


def test_listing_sizes_loads_no_torch():
    code = "import vitpose.models.sizes, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_small_has_twelve_heads():
    assert SIZES["small"].num_heads == 12


@pytest.mark.parametrize("name", SIZES)
def test_heads_divide_the_width_and_shapes_name_the_size(name):
    size = SIZES[name]
    assert size.embed_dim % size.num_heads == 0
    assert size_of_shape(size.embed_dim, size.depth) == name


def test_unknown_size_lists_the_known():
    with pytest.raises(ValueError, match="giant.*nano, tiny, small"):
        find_size("giant")
    with pytest.raises(ValueError, match="width 768 and 11 blocks.*base 768 x 12"):
        size_of_shape(768, 11)
