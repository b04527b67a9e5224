"""Captions in five other languages, which an English labeler should leave without labels.

In: a scene. Out: a caption in French, German, Spanish, Russian or Chinese that names its objects.
"""

from __future__ import annotations

from random import Random

from pipeline.sample.chance import pick
from pipeline.sample.scenes import Scene

# How each language joins two names, and what it puts around them.
LANGUAGES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        " et ",
        ("{} sur fond blanc", "Photo : {} à vendre", "Dessin de {}, livraison gratuite", "{} - l'été à la campagne"),
    ),
    (
        " und ",
        ("{} auf weißem Hintergrund", "Bild: {}", "{} kaufen - schneller Versand", "{} für Kinder, schön gemalt"),
    ),
    (" y ", ("{} sobre fondo blanco", "Foto de {}", "{} - envío gratis a toda España", "Dibujo de {} para niños")),
    (" и ", ("{} на белом фоне", "Фото: {}", "{} купить недорого", "{} - рисунок для детей")),
    ("和", ("{}图片", "可爱的{}插画", "{} 高清素材", "白色背景上的{}")),
)

# One row a kind: French, German, Spanish, Russian, Chinese.
NAMES: dict[str, tuple[str, ...]] = {
    name: tuple(word.strip() for word in words.split(","))
    for name, words in {
        "dog": "chien, Hund, perro, собака, 狗",
        "cat": "chat, Katze, gato, кошка, 猫",
        "car": "voiture, Auto, coche, машина, 汽车",
        "tree": "arbre, Baum, árbol, дерево, 树",
        "house": "maison, Haus, casa, дом, 房子",
        "chair": "chaise, Stuhl, silla, стул, 椅子",
        "fish": "poisson, Fisch, pez, рыба, 鱼",
        "bus": "autobus, Bus, autobús, автобус, 公共汽车",
        "book": "livre, Buch, libro, книга, 书",
        "pizza": "pizza, Pizza, pizza, пицца, 披萨",
        "bicycle": "vélo, Fahrrad, bicicleta, велосипед, 自行车",
        "table": "table, Tisch, mesa, стол, 桌子",
        "clock": "horloge, Uhr, reloj, часы, 时钟",
        "apple": "pomme, Apfel, manzana, яблоко, 苹果",
        "sofa": "canapé, Sofa, sofá, диван, 沙发",
        "mouse": "souris, Maus, ratón, мышь, 老鼠",
        "airplane": "avion, Flugzeug, avión, самолёт, 飞机",
        "umbrella": "parapluie, Regenschirm, paraguas, зонт, 雨伞",
        "hat": "chapeau, Hut, sombrero, шляпа, 帽子",
        "cup": "tasse, Tasse, taza, чашка, 杯子",
        "duck": "canard, Ente, pato, утка, 鸭子",
        "sunflower": "tournesol, Sonnenblume, girasol, подсолнух, 向日葵",
        "balloon": "ballon, Luftballon, globo, шарик, 气球",
        "guitar": "guitare, Gitarre, guitarra, гитара, 吉他",
        "laptop": "ordinateur portable, Laptop, portátil, ноутбук, 笔记本电脑",
        "computer mouse": "souris d'ordinateur, Computermaus, ratón de ordenador, компьютерная мышь, 鼠标",
        "train": "train, Zug, tren, поезд, 火车",
        "butterfly": "papillon, Schmetterling, mariposa, бабочка, 蝴蝶",
        "banana": "banane, Banane, plátano, банан, 香蕉",
        "traffic light": "feu tricolore, Ampel, semáforo, светофор, 红绿灯",
        "key": "clé, Schlüssel, llave, ключ, 钥匙",
        "golden retriever": "golden retriever, Golden Retriever, golden retriever, золотистый ретривер, 金毛犬",
        "wine glass": "verre à vin, Weinglas, copa de vino, бокал, 酒杯",
        "sailboat": "voilier, Segelboot, velero, парусник, 帆船",
        "crane machine": "grue de chantier, Baukran, grúa, подъёмный кран, 起重机",
        "lamp": "lampe, Lampe, lámpara, лампа, 台灯",
        "hot dog": "hot-dog, Hotdog, perrito caliente, хот-дог, 热狗",
        "moon": "lune, Mond, luna, луна, 月亮",
        "goose": "oie, Gans, ganso, гусь, 鹅",
        "soccer ball": "ballon de football, Fußball, balón de fútbol, футбольный мяч, 足球",
        "ice cream": "glace, Eis, helado, мороженое, 冰淇淋",
        "sheep": "mouton, Schaf, oveja, овца, 绵羊",
        "cactus": "cactus, Kaktus, cactus, кактус, 仙人掌",
        "crane bird": "grue cendrée, Kranich, grulla, журавль, 鹤",
        "owl": "hibou, Eule, búho, сова, 猫头鹰",
        "star": "étoile, Stern, estrella, звезда, 星星",
        "mushroom": "champignon, Pilz, seta, гриб, 蘑菇",
        "bat": "chauve-souris, Fledermaus, murciélago, летучая мышь, 蝙蝠",
        "loaf": "pain, Brot, pan, хлеб, 面包",
        "baseball bat": "batte de baseball, Baseballschläger, bate de béisbol, бейсбольная бита, 棒球棒",
        "snail": "escargot, Schnecke, caracol, улитка, 蜗牛",
        "lighthouse": "phare, Leuchtturm, faro, маяк, 灯塔",
        "crown": "couronne, Krone, corona, корона, 皇冠",
        "leaf": "feuille, Blatt, hoja, лист, 叶子",
        "knife": "couteau, Messer, cuchillo, нож, 刀",
        "penguin": "manchot, Pinguin, pingüino, пингвин, 企鹅",
    }.items()
}


def foreign_caption(scene: Scene, chance: Random) -> str:
    """A caption of the scene's objects in one of the languages."""
    language = int(chance.random() * len(LANGUAGES))
    joint, templates = LANGUAGES[language]
    return pick(chance, templates).format(joint.join(NAMES[group.kind.name][language] for group in scene.groups))
