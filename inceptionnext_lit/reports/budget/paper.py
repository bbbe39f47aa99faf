"""The paper's tables as printed, for comparison with our own counts.

Source: InceptionNeXt (arXiv 2303.16900), its authors' README (InceptionNeXt-A), and the papers it cites. Parameters
    (millions) and MACs (10⁹) are stored as text, since the number of printed digits decides what rounds to them.
    Throughput is in images per second on one A100 with batch size 128 in fp32.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperRow:
    """A row of a table.

    Attributes:
        label: The model's name in the paper.
        model: Its name in timm.
        params: Parameters in millions, as printed; None if the paper has no such row.
        macs: Multiply-adds in units of 10⁹, as printed.
        top1: ImageNet-1K accuracy in percent.
        train: Training throughput.
        infer: Inference throughput.
        miou: ADE20K mean intersection over union in percent.
        image_size: Height and width in pixels.
        decoder: Segmentation decoder on top of the backbone; None for classification.
        note: Why a value differs from ours.
    """

    label: str
    model: str
    params: str | None = None
    macs: str | None = None
    top1: float | None = None
    train: int | None = None
    infer: int | None = None
    miou: float | None = None
    image_size: tuple[int, int] = (224, 224)
    decoder: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper.

    Attributes:
        name: Its heading here.
        rows: Its rows in the paper's order.
    """

    name: str
    rows: tuple[PaperRow, ...]


_384 = (384, 384)
_UPER = (512, 2048)
_FPN = (512, 512)
_SEM = "SemanticFPN"
_PVT2 = "not in the paper: PVT's second version in the size of PVT-Medium"
_SWIN_T = "the Swin paper prints 29 for these parameters"
_SWIN_LN = "the Swin paper counts a LayerNorm as 1 operation per element, fvcore as 5"
_FOCAL_S = "9.1 is the count without the surroundings of windows in stage 3; the authors' code counts 9.4"
_RSB = "the RSB paper prints 7.9; the convolutions alone are 7.80"
_REGNET = "15.9 is the count of the convolutions alone"
_NO_TOKEN = "55.4 is the count without the class token"
_DEIT_B = f"86 is DeiT-B's size at 224 pixels, cut off; {_NO_TOKEN}"
_POOL = "with the other rows' decoder it is 25; the PoolFormer paper prints 23"
_CONVNEXT_B = "the ConvNeXt paper prints 45.0; without the norms it is 45.1"

# fmt: off
_MAIN = (
    PaperRow("DeiT-S", "deit_small_patch16_224", "22", "4.6", 79.8, 1227, 3781),
    PaperRow("T2T-ViT-14", "t2t_vit_14", "22", "4.8", 81.5),
    PaperRow("TNT-S", "tnt_s_patch16_224", "24", "5.2", 81.5),
    PaperRow("Swin-T", "swin_tiny_patch4_window7_224", "29", "4.5", 81.3, 564, 1768, note=_SWIN_T),
    PaperRow("Focal-T", "focal_tiny", "29", "4.9", 82.2),
    PaperRow("ResNet-50", "resnet50", "26", "4.1", 78.4, None, 3149),
    PaperRow("RSB-ResNet-50", "resnet50", "26", "4.1", 79.8, 969, 3149),
    PaperRow("RegNetY-4G", "regnety_040", "21", "4.0", 81.3, 670, 2694),
    PaperRow("FocalNet-T", "focalnet_tiny_lrf", "29", "4.5", 82.3),
    PaperRow("ConvNeXt-T", "convnext_tiny", "29", "4.5", 82.1, 575, 2413),
    PaperRow("InceptionNeXt-T", "inceptionnext_tiny", "28", "4.2", 82.3, 901, 2900),
    PaperRow("T2T-ViT-19", "t2t_vit_19", "39", "8.5", 81.9),
    PaperRow("PVT-Medium", "pvt_medium", "44", "6.7", 81.2),
    PaperRow("PVTv2-B3", "pvt_v2_b3", note=_PVT2),
    PaperRow("Swin-S", "swin_small_patch4_window7_224", "50", "8.7", 83.0, 359, 1131, note=_SWIN_LN),
    PaperRow("Focal-S", "focal_small", "51", "9.1", 83.5, note=_FOCAL_S),
    PaperRow("RSB-ResNet-101", "resnet101", "45", "7.9", 81.3, 620, 2057, note=_RSB),
    PaperRow("RegNetY-8G", "regnety_080", "39", "8.0", 82.1, 689, 1326),
    PaperRow("FocalNet-S", "focalnet_small_lrf", "50", "8.7", 83.5),
    PaperRow("ConvNeXt-S", "convnext_small", "50", "8.7", 83.1, 361, 1535),
    PaperRow("InceptionNeXt-S", "inceptionnext_small", "49", "8.4", 83.5, 521, 1750),
    PaperRow("RSB-ResNet-152", "resnet152", "60", "11.6", 81.8, 437, 1457),
    PaperRow("RegNetY-16G", "regnety_160", "84", "15.9", 82.2, 322, 1100, note=_REGNET),
    PaperRow("RepLKNet-31B", "replknet_31b", "79", "15.3", 83.5),
    PaperRow("FocalNet-B", "focalnet_base_lrf", "89", "15.4", 83.9),
    PaperRow("ConvNeXt-B", "convnext_base", "89", "15.4", 83.8, 267, 1122),
    PaperRow("InceptionNeXt-B", "inceptionnext_base", "87", "14.9", 84.0, 375, 1244),
    PaperRow("ViT-B/16", "vit_base_patch16_384", "87", "55.4", 77.9, 130, 359, image_size=_384, note=_NO_TOKEN),
    PaperRow("DeiT-B", "deit_base_patch16_384", "86", "55.4", 83.1, 131, 361, image_size=_384, note=_DEIT_B),
    PaperRow("Swin-B", "swin_base_patch4_window12_384", "88", "47.1", 84.5, 104, 296, image_size=_384, note=_SWIN_LN),
    PaperRow("RepLKNet-31B", "replknet_31b_384", "79", "45.1", 84.8, image_size=_384),
    PaperRow("ConvNeXt-B", "convnext_base", "89", "45.0", 85.1, 95, 393, image_size=_384, note=_CONVNEXT_B),
    PaperRow("InceptionNeXt-B", "inceptionnext_base_384", "87", "43.6", 85.2, 139, 428, image_size=_384),
    PaperRow("InceptionNeXt-A", "inceptionnext_atto", "4.2", "0.51", 75.3, 2661, 9876),
)
_ISOTROPIC = (
    PaperRow("DeiT-S", "deit_small_patch16_224", "22", "4.6", 79.8),
    PaperRow("MetaNeXt-Attn", "metanext_attn_small", "22", "4.6", 3.9),
    PaperRow("ConvNeXt-S (iso.)", "convnext_iso_small", "22", "4.3", 79.7),
    PaperRow("InceptionNeXt-S (iso.)", "inceptionnext_iso_small", "22", "4.2", 79.7),
    PaperRow("DeiT-B", "deit_base_patch16_224", "87", "17.6", 81.8),
    PaperRow("ConvNeXt-B (iso.)", "convnext_iso_base", "87", "16.9", 82.0),
    PaperRow("InceptionNeXt-B (iso.)", "inceptionnext_iso_base", "86", "16.8", 82.1),
)
_ABLATIONS = (
    PaperRow("baseline", "inceptionnext_tiny", "28.1", "4.2", 82.3, 901, 2900),
    PaperRow("no horizontal band kernel", "inceptionnext_tiny_no_hband", "28.0", "4.2", 81.9, 947, 3093),
    PaperRow("no vertical band kernel", "inceptionnext_tiny_no_vband", "28.0", "4.2", 81.9, 954, 3173),
    PaperRow("no small square kernel", "inceptionnext_tiny_no_square", "28.0", "4.2", 82.0, 940, 3004),
    PaperRow("bands in sequence", "inceptionnext_tiny_sequential", "28.1", "4.2", 82.1, 903, 2971),
    PaperRow("band kernel 7", "inceptionnext_tiny_band7", "28.0", "4.2", 82.1, 905, 2946),
    PaperRow("band kernel 9", "inceptionnext_tiny_band9", "28.0", "4.2", 82.1, 904, 2916),
    PaperRow("band kernel 13", "inceptionnext_tiny_band13", "28.1", "4.2", 82.0, 896, 2895),
    PaperRow("branch ratio 1/4", "inceptionnext_tiny_ratio1_4", "28.1", "4.2", 82.2, 834, 2499),
    PaperRow("branch ratio 1/16", "inceptionnext_tiny_ratio1_16", "28.0", "4.2", 81.8, 936, 3097),
)
_TABLE10 = (
    PaperRow("kernel 7", "convnext_tiny", "28.6", "4.5", 82.1, 575, 2413),
    PaperRow("kernel 5", "convnext_tiny_k5", "28.4", "4.4", 82.0, 675, 2704),
    PaperRow("kernel 3", "convnext_tiny_k3", "28.3", "4.4", 81.5, 798, 2802),
    PaperRow("kernel 3, ratio 1/2", "convnext_tiny_k3_par1_2", "28.3", "4.4", 81.4, 818, 2740),
    PaperRow("kernel 3, ratio 3/8", "convnext_tiny_k3_par3_8", "28.3", "4.4", 81.4, 847, 2762),
    PaperRow("kernel 3, ratio 1/4", "convnext_tiny_k3_par1_4", "28.3", "4.4", 81.3, 871, 2808),
    PaperRow("kernel 3, ratio 1/8", "convnext_tiny_k3_par1_8", "28.3", "4.4", 80.8, 901, 2833),
    PaperRow("kernel 3, ratio 1/16", "convnext_tiny_k3_par1_16", "28.3", "4.4", 80.1, 916, 2846),
)
_UPERNET = (
    PaperRow("Swin-T", "swin_tiny_patch4_window7_224", "60", "945", miou=45.8, image_size=_UPER, decoder="UperNet"),
    PaperRow("ConvNeXt-T", "convnext_tiny", "60", "939", miou=46.7, image_size=_UPER, decoder="UperNet"),
    PaperRow("InceptionNeXt-T", "inceptionnext_tiny", "56", "933", miou=47.9, image_size=_UPER, decoder="UperNet"),
    PaperRow("Swin-S", "swin_small_patch4_window7_224", "81", "1038", miou=49.5, image_size=_UPER, decoder="UperNet"),
    PaperRow("ConvNeXt-S", "convnext_small", "82", "1027", miou=49.6, image_size=_UPER, decoder="UperNet"),
    PaperRow("InceptionNeXt-S", "inceptionnext_small", "78", "1020", miou=50.0, image_size=_UPER, decoder="UperNet"),
    PaperRow("Swin-B", "swin_base_patch4_window7_224", "121", "1188", miou=49.7, image_size=_UPER, decoder="UperNet"),
    PaperRow("ConvNeXt-B", "convnext_base", "122", "1170", miou=49.9, image_size=_UPER, decoder="UperNet"),
    PaperRow("InceptionNeXt-B", "inceptionnext_base", "115", "1159", miou=50.6, image_size=_UPER, decoder="UperNet"),
)
_SEMANTIC_FPN = (
    PaperRow("ResNet-50", "resnet50c", "29", "46", miou=36.7, image_size=_FPN, decoder=_SEM),
    PaperRow("PVT-Small", "pvt_small", "28", "45", miou=39.8, image_size=_FPN, decoder=_SEM),
    PaperRow("PoolFormer-S24", "poolformer_s24", "23", "39", miou=40.3, image_size=_FPN, decoder=_SEM, note=_POOL),
    PaperRow("InceptionNeXt-T", "inceptionnext_tiny", "28", "44", miou=43.1, image_size=_FPN, decoder=_SEM),
    PaperRow("ResNet-101", "resnet101c", "48", "65", miou=38.8, image_size=_FPN, decoder=_SEM),
    PaperRow("ResNeXt-101-32x4d", "resnext101_32x4d", "47", "65", miou=39.7, image_size=_FPN, decoder=_SEM),
    PaperRow("PVT-Medium", "pvt_medium", "48", "61", miou=41.6, image_size=_FPN, decoder=_SEM),
    PaperRow("PoolFormer-S36", "poolformer_s36", "35", "48", miou=42.0, image_size=_FPN, decoder=_SEM),
    PaperRow("PoolFormer-M36", "poolformer_m36", "60", "68", miou=42.4, image_size=_FPN, decoder=_SEM),
    PaperRow("InceptionNeXt-S", "inceptionnext_small", "50", "65", miou=45.6, image_size=_FPN, decoder=_SEM),
    PaperRow("PVT-Large", "pvt_large", "65", "80", miou=42.1, image_size=_FPN, decoder=_SEM),
    PaperRow("ResNeXt-101-64x4d", "resnext101_64x4d", "86", "104", miou=40.2, image_size=_FPN, decoder=_SEM),
    PaperRow("PoolFormer-M48", "poolformer_m48", "77", "82", miou=42.7, image_size=_FPN, decoder=_SEM),
    PaperRow("InceptionNeXt-B", "inceptionnext_base", "85", "100", miou=46.4, image_size=_FPN, decoder=_SEM),
)
# fmt: on

TABLES: tuple[PaperTable, ...] = (
    PaperTable("Table 1: ImageNet-1K", _MAIN),
    PaperTable("Table 3: isotropic", _ISOTROPIC),
    PaperTable("Ablations of InceptionNeXt-T", _ABLATIONS),
    PaperTable("Table 10: ConvNeXt-T, kernel size and convolution ratio", _TABLE10),
    PaperTable("ADE20K: UperNet", _UPERNET),
    PaperTable("ADE20K: Semantic FPN", _SEMANTIC_FPN),
)
