"""In which encoding an archive's names are written that does not say: the one in which they look like words."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache

#: What archives are written in, besides UTF-8: by Windows in the West, its older programs, and in other countries.
CODE_PAGES = (437, 1252, 850, 932, 936, 949, 950, 866, 1251, 1250, 852, 1253, 737, 1254, 1255, 862, 1256, 720)

#: Letters with accents that Western, Northern and Central European languages use often.
ACCENTED = frozenset("äöüßéèêëàâáãçñíîïóôõúûùåæøœÄÖÜÉÈÀÁÂÇÑÓÕÅØÆÍÚ")
CENTRAL = frozenset("ąćęłńśźżčďěňřšťůžýőűăâîșțşţğıĄĆĘŁŃŚŹŻČĎŘŠŤŽŐŰŞĞİ")

#: The commonest characters of Chinese, simple and traditional, and of Japanese, as they stand in names of folders.
HAN = frozenset(
    "的一是不了人在有我他这为之大来以个中上们到说国和地也子时道出而要于就下得可你年生自会那后能对着事其里所去行过家十用发天如然作"
    "方成者多日都三小军二无同么经法当起与好看学进种将还分此心前面又定见只主没公从新图像片照数据集训练测试验证类别正常异常良性"
    "恶性肿瘤癌病变肺炎结节胸部脑骨皮肤眼底血管黑色素瘤痣健康患者医院影像扫描样本标签文件夹资料猫狗鸟花车男女红绿蓝白左右高低"
    "這個們來時說會對過發無當學進種將還現從圖據訓練測試驗證類別異惡腫結節腦膚資檔貓鳥車紅綠藍黃圓"
    "画像写真検査正常異常良性悪性腫瘍癌肺炎結節胸部脳骨皮膚眼底血管黒色腫健康患者病院試験学習検証犬猫鳥花車東京日本語新規表示番号部分"
)
#: The commonest syllables of Korean.
HANGUL = frozenset(
    "가각간강개거건검것게결경계고골공과관교구국군그기까나난남내너노뇌는니다단당대데도동된두드등라람래량러레려로료류률를리린마만망맥"
    "면명모목무문물미민바반발방배백변병보복본부분비사산상새색생서선설성세소속손수순술스시식신실심십아안암야양어언없에여역연염영예오"
    "와완외요용우운원월위유육으은을음의이인일임입자작장재전절점정제조종좌주중지진질집차착참채처천첫체초촬최추출치침카코크키타태터테"
    "토통트파판팔패편평폐포표품피하학한할함합해향험현혈형호화확환황회효후흉흑흰"
)
CYRILLIC = frozenset("оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфё")
RARE = frozenset("ъщэфёцчйжшюьбгх")


def decode_names(names: Sequence[bytes]) -> list[str]:
    """Decode the names of one archive, all in the same encoding: UTF-8 if they are valid in it, else the likeliest."""
    together = b"/".join(names)
    return [name.decode(guess_encoding(together), "replace") for name in names]


def guess_encoding(text: bytes) -> str:
    """Guess the encoding of bytes by how much they look like words in it."""
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        odd = b"/".join(sorted({part for part in text.split(b"/") if not part.isascii()}))
        return min((f"cp{number}" for number in CODE_PAGES), key=lambda encoding: measure_oddity(odd, encoding))
    return "utf-8"


def measure_oddity(text: bytes, encoding: str) -> float:
    """How unlikely a text is in an encoding, in no unit; infinite if it cannot be."""
    try:
        decoded = text.decode(encoding)
    except UnicodeDecodeError:
        return float("inf")
    neighbours = zip(f"/{decoded}", decoded, f"{decoded[1:]}/", strict=False)
    foreign = 2.0 if encoding in ("cp936", "cp949", "cp950") else 0.0  # where they hold what is not their own script
    return sum(
        weigh(one) + clash(before, one) + clash(one, after) + foreign * (script(one) not in ("HAN", "HANGUL"))
        for before, one, after in neighbours
        if one > "\x7f"
    )


@cache
def weigh(one: str) -> float:
    """How unlikely a character outside ASCII is in a name."""
    if one in ACCENTED or one.lower() in CYRILLIC:
        return (1 if one.islower() else 1.3) + 0.4 * (one.lower() in RARE)
    if one in HAN or one in HANGUL:
        return 2
    kind = script(one)
    if kind == "KANA":
        return 1.8
    if kind in ("GREEK", "HEBREW", "ARABIC", "CYRILLIC"):
        return 1.15 if one.islower() else 1.3 if kind in ("HEBREW", "ARABIC") else 2
    if kind in ("HAN", "HANGUL"):
        return 3.2 if one.encode("gb2312", "ignore")[:1] < b"\xd8" or kind == "HANGUL" else 5
    if kind == "LATIN":
        return 1.6 if one in CENTRAL else 3
    return 2 if one in "–—’·・（）【】「」、。　№°" else 7


def clash(before: str, after: str) -> float:
    """How unlikely it is that two characters stand side by side: letters of two scripts, or a capital in a word."""
    if (before in "[]\\^{|}~@`" and after > "\x7f") or (after in "[]\\^{|}~@`" and before > "\x7f"):
        return 1.5
    first, second = script(before), script(after)
    if first == second == "LATIN" and min(before, after) > "\x7f":
        return 0.4
    if first and second and first != second:
        return 0.5 if {first, second} <= {"HAN", "KANA"} else 2.5
    return 2.5 if before.islower() and after.isupper() else 0


@cache
def script(one: str) -> str:
    """The script of a letter, "" for what is none."""
    if not one.isalpha() and not unicodedata.combining(one):
        return ""
    name = unicodedata.name(one, "").split(" ")[0]
    known = {"CJK": "HAN", "HIRAGANA": "KANA", "KATAKANA": "KANA", "KATAKANA-HIRAGANA": "KANA", "HALFWIDTH": "KANA"}
    return known.get(name, name)
