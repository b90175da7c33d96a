"""Which ATen operators are alike to relevance."""

from __future__ import annotations

import operator
from typing import Any

import torch

from explainers.relevance.composites import SOFTMAX

aten = torch.ops.aten


def overloads(names: str) -> frozenset[Any]:
    """Look up ATen operators by "name.overload", or by "name" for all overloads; a version of torch may lack some."""
    found = set()
    for name, _, overload in (entry.partition(".") for entry in names.split()):
        packet = getattr(aten, name, None)
        found |= {getattr(packet, one) for one in ([overload] if overload else packet.overloads() if packet else [])}
    return frozenset(found)


#: Each value of the output is one of the input's, wherever it comes from.
MOVES = overloads(
    """view _unsafe_view view_copy view_as reshape reshape_as flatten unflatten squeeze unsqueeze permute transpose t
    numpy_T mT adjoint mH movedim moveaxis swapaxes swapdims expand expand_as broadcast_to contiguous clone to
    _to_copy type_as float double alias detach lift_fresh_copy repeat tile repeat_interleave flip fliplr flipud rot90
    roll slice narrow select diagonal diag_embed unbind split split_with_sizes tensor_split hsplit vsplit chunk
    unsafe_chunk unsafe_split unsafe_split_with_sizes index index_select atleast_2d atleast_3d take take_along_dim
    gather masked_select sort unfold unfold_copy pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle
    reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d
    upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d
    _upsample_nearest_exact3d as_strided permute_copy expand_copy slice_copy"""
)
#: Each value is one of the input's, or one of several that compete.
WINNERS = overloads(
    """max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
    fractional_max_pool2d fractional_max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d amax amin
    aminmax max.default max.dim min.default min.dim median nanmedian kthvalue mode topk cummax cummin msort logsumexp
    logcumsumexp"""
)
#: Each value is one of the input's or a constant.
FILLED = overloads(
    """pad constant_pad_nd masked_fill masked_scatter where triu tril im2col max_unpool2d max_unpool3d fill
    slice_scatter select_scatter diagonal_scatter as_strided_scatter scatter.src scatter.value index_put index_fill
    index_copy put embedding diag stack hstack vstack dstack column_stack block_diag meshgrid broadcast_tensors
    cartesian_prod logaddexp logaddexp2"""
)
ELEMENTWISE = overloads(
    """relu relu6 leaky_relu prelu _prelu_kernel elu selu celu gelu silu mish softplus sigmoid hardsigmoid hardswish
    tanh hardtanh log_sigmoid log_sigmoid_forward threshold softshrink hardshrink rrelu clamp clamp_min clamp_max
    clip dropout batch_norm neg negative positive abs absolute exp exp2 expm1 log log2 log10 log1p sqrt rsqrt square
    pow float_power reciprocal sin cos tan asin acos atan arcsin arccos arctan sinh cosh asinh acosh atanh arcsinh
    arccosh arctanh erf erfc erfinv logit sinc frac round floor ceil trunc fix sign sgn nan_to_num lgamma digamma i0
    xlogy atan2 arctan2 fmod remainder copysign deg2rad rad2deg special_expit special_logit special_erf special_erfc
    special_erfinv special_log1p special_expm1 special_exp2 special_sinc special_log_ndtr special_ndtr special_xlogy
    special_xlog1py special_gammaln special_entr special_i0e special_i1 special_i1e special_digamma special_psi
    polygamma special_polygamma fake_quantize_per_tensor_affine fake_quantize_per_channel_affine"""
)
AVERAGES = overloads(
    """avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d
    _adaptive_avg_pool3d mean nanmean sum nansum upsample_linear1d upsample_bilinear2d upsample_trilinear3d
    upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_lanczos2d_aa"""
)
#: Linear in the input, and neither an average nor a move.
LINEAR = overloads(
    """cumsum diff trace col2im sum_to_size fft_fft fft_ifft fft_fft2 fft_ifft2 fft_fftn fft_ifftn fft_rfft fft_irfft
    fft_rfft2 fft_irfft2 fft_rfftn fft_irfftn fft_hfft fft_ihfft fft_fftshift fft_ifftshift _fft_r2c _fft_c2r
    _fft_c2c stft istft view_as_real view_as_complex real imag conj conj_physical _conj _conj_physical resolve_conj
    linalg_vector_norm linalg_norm linalg_matrix_norm norm frobenius_norm nuclear_norm std quantile nanquantile
    linalg_svdvals"""
)
#: Linear in several inputs together, of which some may be constants.
JOINED = overloads(
    """scatter_add index_add scatter_reduce index_reduce cdist _cdist_forward _euclidean_dist dist pairwise_distance
    hypot lerp complex"""
)
PRODUCTS = overloads(
    """matmul bmm mm mv dot vdot inner outer ger einsum tensordot kron chain_matmul linalg_multi_dot _trilinear
    linalg_matmul linalg_vecdot cross linalg_cross"""
)
QUOTIENTS = overloads("div divide true_divide floor_divide")
GATES = SOFTMAX | overloads(
    "sigmoid hardsigmoid special_expit rsqrt reciprocal sign sgn heaviside softmax special_softmax"
)
#: Bounded on both sides: a gate beside a signal, and a signal beside a gate.
SQUASHED = GATES | overloads("tanh erf special_erf relu6 hardtanh clamp clip")
#: What leaves a gate a gate: changes of shape and size, and sums and products with constants (1 - gate).
KEEPING = (
    MOVES
    | WINNERS
    | FILLED
    | AVERAGES
    | QUOTIENTS
    | overloads("add sub rsub subtract neg negative multiply mul")
    | {operator.getitem}
)
