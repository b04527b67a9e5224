"""Captions to synsets, as a table that can be read; then what must hold for every caption."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocab import labeler, wordnet


def names(*captions: str | None) -> list[set[str]]:
    nouns = wordnet.load()
    lists = labeler.load().label(pa.array(captions, pa.string())).to_pylist()
    return [{nouns.name_of(nouns.row_of(synset)) for synset in synsets} for synsets in lists]


CAPTIONS = {
    # a noun is its synset
    "a dog": "dog.n.01",
    # synonyms merge
    "a couch": "sofa.n.01",
    "a sofa": "sofa.n.01",
    "my automobile": "car.n.01",
    "a bicycle, a phone and a tv": "bicycle.n.01 telephone.n.01 television_receiver.n.01",
    # plurals, regular and not
    "dogs, boxes and ladies": "dog.n.01 box.n.01 lady.n.01",
    "geese, mice, wolves and children": "goose.n.01 mouse.n.01 wolf.n.01 child.n.01",
    "two boxes on the beaches": "box.n.01 beach.n.01",
    "hands": "hand.n.01",
    "glasses on a bus": "spectacles.n.01 bus.n.01",
    # possessives and apostrophes, typed either way
    "the dog's ball": "dog.n.01 ball.n.06",
    "the dogs’ ball": "dog.n.01 ball.n.06",
    # nouns of several words; the longest wins and its parts are not labelled as well
    "a golden retriever": "golden_retriever.n.01",
    "Two Golden Retrievers": "golden_retriever.n.01",
    "traffic lights at night": "traffic_light.n.01 night.n.01",
    "ice cream": "ice_cream.n.01",
    "ice-cream": "ice_cream.n.01",
    "the Statue of Liberty in New York City": "statue_of_liberty.n.01 new_york.n.01",
    "new york in spring": "new_york.n.01 spring.n.01",
    "T-shirts": "jersey.n.03",
    # but no idiom for what captions mean word by word
    "a cup of tea and a piece of cake": "cup.n.01 tea.n.01 piece.n.08 cake.n.03",
    "a light at the traffic": "light.n.14 traffic.n.01",
    # a picture shows the animal, where WordNet's corpora have too little to say
    "a tiger": "tiger.n.02",
    # captions mean the machine
    "a crane": "crane.n.04",
    # the words around decide what they can
    "a crane at a construction site": "crane.n.04 construction.n.01 site.n.01",
    "a crane in a marsh": "crane.n.05 marsh.n.01",
    "a mouse beside a keyboard": "mouse.n.04 keyboard.n.01",
    "a mouse eating cheese": "mouse.n.01 cheese.n.01",
    "a palm on a beach": "palm.n.03 beach.n.01",
    "the palm of a hand": "palm.n.01 hand.n.01",
    "a pitcher of water": "pitcher.n.02 water.n.01",
    "a plate of food on a table": "plate.n.04 food.n.02 table.n.02",
    # parts of speech are told where a word stands
    "people duck under the doorway": "people.n.01 doorway.n.01",
    "a light blue shirt": "shirt.n.01",
    "free shipping": "transportation.n.05",
    "a man swinging a bat": "man.n.01 bat.n.05",
    "a can of soda": "can.n.01 pop.n.02",
    "a man can play": "man.n.01",
    "BIRDS FLY OVER A LAKE": "bird.n.01 lake.n.01",
    # a quality and a noun are no idiom; a name with "a" before it is none
    "a black cat and an old lady": "cat.n.01 lady.n.01",
    "a white house and white houses": "house.n.01",
    "little dog": "dog.n.01",
    # a sign between words parts them; a file's name is words
    "a gray dog, house": "dog.n.01 house.n.01",
    "my dog. House for sale": "dog.n.01 house.n.01 sale.n.04",
    "a St. Bernard": "saint_bernard.n.01",
    "a-white-cat-on-a-sofa_0342.jpg": "cat.n.01 sofa.n.01",
    "a%20white%20cat.png": "cat.n.01",
    "DSC_0042.JPG IMG0042.jpg photos/0042-x.png cats.com": "",
    "the White House": "white_house.n.02",
    # names younger than WordNet
    "a cell phone": "cellular_telephone.n.01",
    "a close-up of geese": "closeup.n.01 goose.n.01",
    # names only of what WordNet has, and only alone
    "john and tom": "",
    "a trip to Paris": "trip.n.01 paris.n.01",
    "a tour of China": "tour.n.01 china.n.01",
    "a turkey on the grass, a trip to Turkey": "turkey.n.01 grass.n.01 trip.n.01 turkey.n.02",
    "New York, Paris, London": "new_york.n.01 paris.n.01 london.n.01",
    "Paris, France": "paris.n.01 france.n.01",
    "Paris Hilton": "",
    "London Paris": "",
    "Michael Jordan": "",
    "a tour of London and Paris": "tour.n.01 london.n.01 paris.n.01",
    "Abraham Lincoln": "lincoln.n.01",
    # an individual that WordNet's corpora do not have, and whose name is a common noun, only beside a listed word
    "Fox News": "",
    "the Isle of Man TT": "man.n.09",
    "a painting by Kirchner": "painting.n.01",
    # an unmistakable name
    "a painting by Picasso": "painting.n.01 picasso.n.01",
    "a Chihuahua and a Labrador": "chihuahua.n.03 labrador_retriever.n.01",
    "September in Canada": "september.n.01 canada.n.01",
    # entries of captions' own, also as a name, beside one, and in the plural
    "iphone": "cellular_telephone.n.01",
    "an iPhone on a table": "cellular_telephone.n.01 table.n.02",
    "Apple iPhone": "cellular_telephone.n.01",
    "two selfies and a hoodie": "self-portrait.n.01 sweatshirt.n.01",
    "race tracks": "racetrack.n.01",
    # a plural has its own senses and those of its singular
    "a woman in glasses": "woman.n.01 spectacles.n.01",
    "two glasses of wine": "glass.n.02 wine.n.01",
    "two bridges over a river": "bridge.n.01 river.n.01",
    "a child in his arms": "child.n.01 arm.n.01",
    # no noun in captions, unless a listed word is near
    "cream shoes": "shoe.n.01",
    "cream in coffee": "cream.n.02 coffee.n.01",
    "a male lion": "lion.n.01",
    # words that are no noun together, and words that each may be one
    "a house in front of a lake": "house.n.01 lake.n.01",
    "the front of a house": "front.n.01 house.n.01",
    "a cat on top of a car": "cat.n.01 car.n.01",
    "the top of a mountain": "top.n.02 mountain.n.01",
    "a red fire hydrant": "fireplug.n.01",
    "a walk in the park": "walk.n.04 park.n.02",
    "her head on his shoulder": "head.n.01 shoulder.n.01",
    # colours are none
    "a navy shirt": "shirt.n.01",
    "the colour red": "color.n.01",
    # a code is one only if it is listed
    "a dress in xl": "dress.n.01",
    "a cd and a TV": "compact_disk.n.01 television_receiver.n.01",
    # words that are mostly something else, and words of grammar, are no nouns
    "black, white and free": "",
    "they are sitting in it, as he does": "",
    "his": "",
    "at home": "home.n.01",
    "10 x 3 2019": "",
    # what the web wraps around words
    "<b>cat</b> &amp; dog": "cat.n.01 dog.n.01",
    "cat%20dog": "cat.n.01 dog.n.01",
    "<a href='dog.html'>cat</a>": "cat.n.01",
    "http://dogs.com/dog.jpg HTTPS://DOGS.COM/DOG": "",
    "«dog»…cat!!!": "dog.n.01 cat.n.01",
    "DOG Cat": "dog.n.01 cat.n.01",
    "un chien noir": "",
    "собака 犬 🐶": "",
    "abstract halloween background, wallpaper — 图库矢量图片": "halloween.n.01 background.n.02 background.n.07",
    "die Katze auf dem Tisch mit einer Maus": "",
    "a café": "cafe.n.01",
    "dog&amp;#39;s %63at": "dog.n.01 cat.n.01",
    "dog_cat": "dog.n.01 cat.n.01",
    "100% cotton &": "cotton.n.02",
    "%ff%fe dog &#xD800; &bogus;": "dog.n.01",
    # nothing
    "": "",
    " \t\n\u3000": "",
    "<><<>>&&%%": "",
}


@pytest.mark.parametrize("caption", CAPTIONS)
def test_a_caption_gets_its_synsets(caption: str) -> None:
    assert names(caption) == [set(CAPTIONS[caption].split())]


def test_a_null_caption_gets_no_label() -> None:
    assert names(None) == [set()]


def test_no_caption_gives_no_list() -> None:
    assert names() == []


def test_a_slice_of_an_array_is_labelled_like_a_copy() -> None:
    whole = pa.array(["a dog", "a cat", "<b>a sofa</b>", None, "mice"])
    label = labeler.load().label
    assert label(whole.slice(1, 3)).to_pylist() == label(whole).to_pylist()[1:4]


def test_a_megabyte_of_text_is_labelled() -> None:
    assert names("dog " * 250_000 + "cat") == [{"dog.n.01", "cat.n.01"}]


def test_synsets_are_unique_and_ascending() -> None:
    [synsets] = (
        labeler.load().label(pa.array(["a sofa, a couch, a dog, two dogs, a cat, a tiger and a tree"])).to_pylist()
    )
    assert synsets == sorted(set(synsets))
    assert len(synsets) == 5


def test_the_fingerprint_is_that_of_this_release() -> None:
    """Other rules or tables give another one: raise RULES_VERSION, and note it under Format in CHANGELOG.md."""
    assert labeler.load().fingerprint[:16] == "1b83846c2fb44d92"


words = st.sampled_from(
    ["dog", "golden", "retriever", "hot", "traffic", "lights", "in", "ice", "cream", "&amp;", "<b>", "s"]
)
captions = st.one_of(st.none(), st.text(max_size=60), st.lists(words, max_size=9).map(" ".join))


@settings(max_examples=25, deadline=None)
@given(st.lists(captions, max_size=8))
def test_labels_do_not_depend_on_the_batch(batch: list[str | None]) -> None:
    label = labeler.load().label
    together = label(pa.array(batch, pa.string())).to_pylist()
    alone = [label(pa.array([caption], pa.string())).to_pylist()[0] for caption in batch]
    assert together == alone
