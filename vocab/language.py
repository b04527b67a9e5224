"""English or not, judged by a caption's small words. Only English gives labels: *die*, *hat*, *pour* may be no nouns.

A caption whose words' values add up to less than nothing is taken for another language.
"""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from vocab.cleaning import FOREIGN_LETTER
from vocab.nouns import are_among
from vocab.tagger import UNKNOWN, Tagger

# Articles, prepositions, conjunctions, pronouns and auxiliaries of languages written with Latin letters, without their
# accents, and words of the web shop; none that is a common word of English as well.
FOREIGN_WORDS = frozenset(
    """
    der und den dem des das ein eine einen einem einer eines ist nicht mit auf fur von vom zum zur bei nach aus uber
    unter auch sich oder wie wir ihr sie ich du mein dein unser durch ohne gegen zwischen bis als wenn wird werden sind
    kaufen schwarz weiss grun blau rot neu kinder herren damen und fuer
    le la les une du au aux et est dans sur avec sans pour par chez que qui ne pas plus ce cette ces son sa ses leur
    leurs notre votre nous vous ils elle elles mais ou donc entre depuis tres tout tous toute noir blanc rouge bleu vert
    femme homme enfant maison
    el los las del al un unos unas y con por para sin sobre entre hasta desde como mas muy pero su sus mi tu nuestro
    es esta este estos estas lo se te que quien cual donde cuando nino mujer hombre negro blanco rojo azul verde
    o os uma um uns umas da dos nas nos em no na com sem ao aos pelo pela ate seu sua seus suas nao voce isso este preto
    il lo gli della delle dello degli dei nel nella nelle di che non piu sono anche alla alle ai dal dalla sul sulla
    per tra fra questo questa uno una nero bianco donna uomo
    het een van voor met op aan bij uit naar ook niet zijn wordt deze dit als maar zwart wit kinderen vrouw
    och att det som pa av ar for med till fran ett den inte sig hos og til ikke fra eller jeg er svart barn
    na w z do nie sie jest dla oraz przez lub od po ze przy ktory dzieci
    v ve s se ze pro na do je jsou nebo ale jako
    bir ve ile icin bu cok daha olan gibi
    di dan yang untuk dengan dari ini itu pada adalah anak
    ja ei on se ovat mutta kanssa
    az es egy nem hogy van meg
    si cu din pe la sau pentru mai este
    """.split()
) - frozenset(
    "a an as at do no on to so me he we us es so i in is it or by of al per pro met meg van ai from for".split()
)

# What is both: no evidence of another language on its own.
SHARED_WORDS = frozenset(
    "un du la le el los las del se na y z w v s o e ze te mi er den plus sans son dim chez ne sa".split()
)

FOREIGN = -3
SHARED = -1
GRAMMAR = 2
KNOWN = 1
UNKNOWN_WORD = -1
ACCENT = -1
"""score of each letter with an accent and each word in another script"""


def values_of(tagger: Tagger) -> NDArray[np.int32]:
    """[W] value of each word of the tagger: of English's small words, of words it knows, of unknown ones."""
    grammar = np.array([name.startswith("word ") for name in tagger.classes])
    values = np.where(grammar[tagger.class_of], GRAMMAR, KNOWN).astype(np.int32)
    values[np.asarray(pc.starts_with(tagger.words, UNKNOWN))] = UNKNOWN_WORD
    values[np.asarray(pc.match_substring(tagger.words, "0"))] = 0
    # Captions in which such words stand are among the tagged ones.
    values[np.asarray(pc.match_substring(tagger.words, FOREIGN_LETTER))] = UNKNOWN_WORD
    values[tagger.pad] = 0
    for words, value in ((FOREIGN_WORDS, FOREIGN), (SHARED_WORDS, SHARED)):
        values[are_among(tagger.words, words)] = value
    return values
