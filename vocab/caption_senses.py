"""Senses of some words in captions, written by hand: the only part of the senses that is not fitted.

In: nothing. Out: for a lemma, the sense that a caption means if nothing else is known, and words nearby that speak for
a sense. WordNet's counts are from news and novels of 1961: there a plate is home base, a table a list of numbers, and
a mouse never lies beside a keyboard. Only nouns that captions use often, or whose senses look nothing alike, are here.

    lemma  default sense, "-" for none | sense: words that speak for it | ...      numbers as in WordNet 3.0
        and so on, where a line is indented
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vocab.errors import FormatError


@dataclass(frozen=True)
class CaptionSenses:
    """One line of the list."""

    lemma: str
    default: int | None
    """number of the sense, from 1"""
    cues: dict[int, tuple[str, ...]]


LISTED = """
adult        1 | 2: insect beetle larva moth butterfly
apple        1 | 2: tree orchard blossom
award        2 | 2: winning win won wins winner ceremony music academy best presented receives holding show annual
background   2
band         1 | 5: rock music stage concert drummer guitar singer performing performs song album live | 9: wedding
    gold engagement finger
bank         - | 1: river rivers stream canal lake grass grassy water muddy fishing boats | 2: money savings account
    loan robbery credit investment central atm | 9: building corner street city
base         2 | 2: tower statue column tree mountain hill cliff wall building | 3: baseball runner player second
    third home pitcher sliding slides | 1: air military army naval navy force | 8: lamp vase glass
bass         8 | 7: guitar player amp drum drums band stage guitarist double strings | 8: fishing caught lake angler
    fish boat striped largemouth
bat          1 | 1: cave flying vampire wings halloween fruit night nocturnal roost | 5: baseball ball swing swings
    swinging hit hitting hits player batter holding holds helmet pitch game boy field home swung | 4: cricket
    cricketer wicket
batter       1 | 2: cake pancake bowl mixing flour fried dough
bike         2 | 1: motor dirt engine
bill         - | 3: dollar dollars money cash currency banknote | 10: duck bird beak yellow long
bloom        2
board        2 | 9: chess game checkers monopoly | 7: circuit electronic control panel | 1: directors members meeting
    chairman trustees education commission county school state
bow          1 | 4: arrow arrows archer archery hunting quiver shooting | 3: ship boat stern deck sail | 2: violin
    cello string fiddle | 1: hair ribbon tie gift dress pink
bulb         2 | 1: tulip flower plant garden daffodil garlic onion
button       1 | 2: elevator panel press control | 6: click web website icon download
cake         3 | 1: soap
capture      -
card         3 | 7: greeting christmas birthday valentine thank invitation wedding | 1: deck poker ace spades playing
    hearts | 2: credit debit identity id visa
case         - | 5: phone leather pencil carrying glass display iphone samsung galaxy violin guitar cover laptop ipad
    makeup zipper
castle       2
cell         - | 2: blood stem cancer human red white plant animal nerve microscope | 5: phone phones mobile call
    calling | 7: prison jail prisoner bars inmate
center       1
centre       2
chain        - | 3: gold silver necklace metal link links jewelry bracelet key bike iron rusty steel | 4: store
    restaurant hotel
chest        1 | 2: treasure wooden box lid pirate | 4: drawers bedroom dresser furniture
chip         4 | 7: computer silicon circuit processor board | 6: poker casino gambling
club         2 | 5: golf golfer swing bag | 7: night dance dj nightclub dancing
coach        1 | 5: bus passengers tour travel | 4: horses horse drawn carriage royal
cock         5
composition  1 | 4: music piano orchestra performed
controller   3
corn         3 | 1: field fields farm stalk stalks rows maize
corner       1 | 4: street intersection road traffic sidewalk
court        - | 4: tennis basketball player players ball racket racquet volleyball badminton match playing net game |
    1: judge law lawsuit trial supreme case legal
cover        1 | 4: book magazine album issue front
crane        5 | 4: construction building site lifting tower yellow truck ship port harbor harbour dock container
    cargo hook steel industrial | 5: bird water marsh wading flock nest wings flying feathers wetland standing
    wildlife pond red
cream        2 | 3: skin face hand body moisturizing anti shaving sun cosmetic eye
cup          1 | 8: world trophy won winning football championship soccer
dagger       1
date         - | 8: palm fruit dried nuts chocolate tree
deck         - | 4: wooden backyard house pool patio | 1: ship boat cruise upper lower sailor | 3: cards card playing
design       4 | 1: interior web graphic architect landscape studio
dish         2 | 1: soap washing sink clean plate | 5: satellite antenna roof radio
dock         3
dome         4
drill        1 | 4: soldiers military marching training
fan          1 | 2: cheering stadium crowd soccer football concert team
fashion      3
female       - | 2: model student dancer doctor nurse patient athlete hand wearing young
fig          - | 4: fruit fruits tree fresh jam leaf leaves ripe dried cheese salad
file         1
film         1
flight       2 | 3: stairs steps staircase
fly          1 | 5: fishing rod trout lure
focus        2
font         1
foot         1 | 2: tall high long wide deep square length above
frame        10 | 1: glasses eyeglasses sunglasses | 2: film movie video | 9: bike bicycle steel timber building
fur          2 | 1: coat trim lined faux collar jacket vest hat
gear         4 | 1: wheel wheels teeth clock cog cogs
glass        2 | 1: window windows stained door building broken clear panel table wall doors
glove        2 | 1: baseball catcher mitt pitcher | 3: boxing boxer
gold         3
gondola      2
gray         1
grey         5
grill        2 | 1: restaurant bar
hall         1 | 3: concert music city town
hamper       2
heart        - | 7: shape shaped card valentine red pink pendant necklace love print pattern decorated balloon | 2:
    blood disease surgery human attack valve
hood         - | 6: car engine truck vehicle | 2: jacket sweatshirt coat
hook         4 | 1: fishing bait
horn         - | 2: cow bull goat rhino antelope animal sheep ram buffalo | 5: brass trumpet french player orchestra
    band | 8: car truck
hot_dog      2
icon         2 | 3: saint saints orthodox church virgin byzantine holy
illustration 4
image        3 | 1: mind mental imagination | 2: public
iris         1 | 2: eye eyes pupil
jack         - | 6: audio headphone cable phone | 9: ace king queen spades
jaguar       1
jam          1 | 3: traffic cars highway
jean         1
jersey       3
john         -
keyboard     1
kid          1 | 5: goat
kite         3 | 4: hawk bird prey soaring raptor
lamp         1 | 2: table desk bedside shade floor
letter       - | 2: alphabet capital font spelling initial sign logo white red black blue large big bold gold | 1:
    love envelope handwritten addressed mail
level        - | 4: eye ground street sea low high water
library      - | 5: building public exterior university architecture
light        - | 2: ceiling lamp street hanging fixture bulb kitchen christmas led traffic pendant wall | 1: sun
    sunlight morning shines shining rays natural soft
line         2 | 1: people waiting queue standing
lot          2 | 1: of
male         - | 2: model student dancer doctor nurse patient athlete hand wearing young
map          1
march        -
mark         - | 4: tire bite scratch skin
market       - | 5: food fish farmers vegetables fruit flea street local stall stalls square town | 4: stock stocks
    shares
match        2 | 1: fire burning lit light candle cigarette matchbox
medium       -
model        8 | 8: fashion runway walks woman girl beautiful wearing poses presents dress style | 4: train scale
    airplane toy plastic ship building railway miniature replica car plane architectural | 2: car vehicle new latest
    year launched phone
mole         6 | 4: skin face cheek | 3: sauce chicken mexican
monitor      5 | 6: lizard
mortar       - | 3: pestle spice stone grinding bowl | 2: bricks brick cement wall
mouse        1 | 4: computer keyboard laptop pc desk usb wireless monitor cursor pad optical click screen gaming
    headset desktop | 1: cheese cat rat trap rodent tail fur field cage
mug          4
nail         - | 1: polish finger fingers manicure art toe hand beauty painted acrylic salon gel | 2: hammer wood wall
    board hammering screw rusty nailed
nature       - | 3: wildlife photography photo landscape beautiful park outdoor wild background walk
north        3 | 3: west side wall looking facing view map | 5: facing looking
number       - | 5: race jersey plate license house phone player shirt wearing
nut          1 | 3: bolt bolts screw wrench washer thread
orange       1
organ        - | 5: church pipe cathedral pipes keyboard music | 1: human body heart liver transplant kidney
palace       1
palette      1 | 2: paint brush brushes painter artist wooden
palm         3 | 1: hand hands finger fingers his her holding holds open read skin | 3: beach tree trees coconut
    tropical island sand sea ocean leaf leaves resort hawaii
pant         2
party        - | 4: birthday dinner christmas tea cocktail halloween costume pool wedding dress dance balloons night
    beach surprise after bachelorette decorations | 1: political democratic republican labour communist conservative
    member election leader liberal socialist vote voters | 2: search hunting rescue
path         2
pattern      3 | 3: floral print printed striped geometric seamless fabric background black white colorful leopard
    polka abstract vector dress
pen          1 | 2: sheep pigs cattle animals farm animal pig
perspective  2
picture      1
pinwheel     3
pipe         2 | 1: smoking smoke tobacco man mouth | 4: organ
pitcher      - | 1: baseball mound ball throws throwing throw pitch pitching pitches game inning league team glove |
    2: water glass milk juice ceramic table jug
plane        1
plant        2 | 1: power nuclear chemical factory manufacturing assembly industrial steel workers treatment smoke
plate        4 | 1: baseball umpire catcher batter base pitcher | 2: metal steel armor
pole         1 | 3: north south arctic magnetic
pop          4 | 2: soda can bottle drink
pose         2
post         4
poster       1
pot          1 | 4: plant flower flowers soil clay potted garden planted cactus fern terracotta | 1: stove cooking
    kitchen boiling soup cook
print        2
profile      - | 2: side face view head bird woman man girl standing facing | 1: company risk user
pupil        1 | 2: eye iris eyes
queen        2 | 1: bee bees ant ants hive colony | 7: cards hearts spades diamonds | 8: chess
race         2
racket       4
rear         2
reflection   5 | 1: thoughts prayer essay
review       2
right        - | 2: on to facing far lower upper second left side corner image picture photo hand standing wearing
    holding front background bottom top | 1: civil human voting equal legal
ring         8 | 7: boxing boxer boxers wrestling fight wrestler circus bull
rock         1 | 4: band music concert singer guitar song album star roll
roll         - | 7: bread butter sandwich dinner baked cinnamon bakery | 5: paper toilet towel fabric film
royalty      1 | 2: king queen prince princess royal crown
ruler        2 | 1: king queen emperor kingdom dynasty throne ancient sultan
saw          2
scale        - | 7: weight weighing kitchen bathroom kg weigh
scene        3
screen       3 | 2: window door bug
screw        4
seal         9 | 5: official document government state president wax university department county city stamp | 1: wax
    letter envelope
set          1
sheet        3 | 2: paper music printed blank
shell        3 | 1: artillery war gun tank cannon mortar | 4: coconut walnut nut | 5: egg eggs | 8: phone
shorts       1
shot         11 | 11: close medium wide full low angle aerial long head beautiful overhead studio cropped up group
    night of view black white | 8: tequila whiskey vodka bar drink glass liquor | 15: goal basketball soccer hockey
    hoop | 3: tennis golf racket | 2: cannon iron gun
shower       1
sign         - | 4: street road stop shop store neon traffic stands hanging front building pole warning exit | 2: says
    reading reads posted
silhouette   1
silver       1
skate        1 | 2: fish sea caught
slice        2
slug         7
south        - | 3: end coast shore face entrance west side wall looking facing view map
spindle      4
splash       5 | 4: color colour colors
spring       - | 2: coil metal mattress steel | 3: hot water thermal mineral
square       - | 3: town city market public people crowd historic main times | 1: triangle circle rectangle shape
    geometric
squash       2 | 3: racket court player tournament
stage        3 | 1: early development cycle final growth life
star         - | 1: sky galaxy night stars astronomy telescope nebula planet constellation cluster | 4: movie film
    actor actress hollywood tv singer pop | 5: shape flag red gold christmas tree yellow badge points pattern print
    white stripes
stem         2 | 3: wine goblet
sticker      2
stock        -
stop         5
stove        1
style        - | 3: hair fashion vintage modern cartoon retro art architecture font different same traditional home
suit         1
table        2 | 1: shown shows summary statistics results following per values data column columns rows row
    spreadsheet numbers showing
tablet       1
tank         2 | 1: army military war soldiers battle gun armored panzer turret
teddy        1
temple       1 | 2: forehead hair head
text         1
tick         2
ticket       1
tie          1
tissue       - | 2: paper box toilet roll wipes napkin
title        2 | 2: book song album track page film movie game reads | 4: champion championship win wins winner
    winning boxing wrestling
toilet       2
touch        -
track        3 | 4: race racing runner runners athletics running horse athlete lap | 5: song album music
train        1
trunk        1 | 4: car vehicle open luggage rear | 5: elephant elephants | 2: luggage travel wooden antique steamer
turkey       1 | 2: istanbul ankara country president flag earthquake turkish map | 4: dinner roast thanksgiving
    sandwich stuffing gravy roasted slices
tv           2
u.s.         2 | 1: government federal congress senate department president
usa          1
van          5
vault        3
view         - | 2: of from aerial panoramic beautiful scenic ocean mountain city front rear
volcano      2
watch        1
wave         1
web          5 | 2: spider
whistle      4
wing         - | 2: plane airplane aircraft jet airliner | 11: hospital museum building prison
world        4 | 4: map globe atlas earth around planet cup record countries largest tallest biggest championships
    wonders
yard         - | 2: front back grass fence house dog garden playing lawn trees tree home sale | 1: long inch run line
"""

ADDED = {
    "stock photo": "photograph", "stock photos": "photograph", "stock photography": "photography",
    "stock image": "picture", "stock images": "picture", "stock illustration": "illustration",
    "stock illustrations": "illustration", "stock vector": "illustration", "stock vectors": "illustration",
    "cell phone": "cellular_telephone", "cell phones": "cellular_telephone", "smartphone": "cellular_telephone",
    "smartphones": "cellular_telephone", "smart phone": "cellular_telephone", "smart phones": "cellular_telephone",
    "hoodie": "sweatshirt", "hoodies": "sweatshirt", "selfie": "self-portrait", "selfies": "self-portrait",
    "wetsuit": "wet_suit", "wetsuits": "wet_suit", "stop light": "traffic_light", "stop lights": "traffic_light",
    "stoplights": "traffic_light", "close up": "closeup", "close ups": "closeup", "bath tub": "bathtub",
    "bath tubs": "bathtub", "hand bag": "handbag", "hand bags": "handbag", "stuffed animal": "toy",
    "stuffed animals": "toy", "hot air balloon": "hot-air_balloon", "double decker": "double-decker",
    "website": "web_site", "websites": "web_site", "pants": "pant", "stripes": "stripe", "cows": "cow",
}  # fmt: skip
"""names of things that are younger than WordNet 3.0, or that it spells or means otherwise (*pants*, women's underwear):
the lemma that they are read as"""

DROPPED = frozenset(
    """
    billy bob bobby charlie chuck dick frank hank harry jack jenny jerry jim jimmy joe john johnny josh ken kitty-cat
    larry marc mark mary matt nick pat pete peter ray ref rob sally sam ted tom tommy tony vintage willy
    """.split()
) - {"mark", "kitty-cat"}
"""given names that WordNet lists as common nouns (*tom*, a male turkey), and two words that captions mean otherwise
(*vintage* is no wine, *ref* no referee): no label"""


def listed() -> Iterator[CaptionSenses]:
    """The list, parsed. Raises FormatError for a line that cannot be."""
    for line in LISTED.strip().replace("\n ", " ").splitlines():
        head, *groups = (part.strip() for part in line.split("|"))
        try:
            lemma, default = head.split()
            cues = {int(number): tuple(words.split()) for number, words in (group.split(":") for group in groups)}
            yield CaptionSenses(lemma, None if default == "-" else int(default), cues)
        except ValueError as error:
            raise FormatError(
                f"caption senses: {line!r}", found=str(error), wanted="lemma default | sense: words | ...",
                remedy="Mend the line in vocab/caption_senses.py.",
            ) from error  # fmt: skip
