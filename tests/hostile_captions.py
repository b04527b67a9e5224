"""Captions that try to break the labeler: a list, and a strategy that draws more."""

from __future__ import annotations

from hypothesis import strategies as st

HOSTILE = [
    "", None, " ", "'", "''", "'s", "s", "s's", "a's's dog", "dog's", "DOG'S ball", "dog's's's", "dogs' ball",
    "dog'", "'dog", "x'", "'s's", "cat's-paw", "cat 's paw", "don't", "dog'sun", "dog's1", "1's dog", "dog\x7f's",
    "\x7f", "\x7fdog", "dog\x7f", "\x7f\x7f cat", "\x00", "dog\x00cat", "\x01\x02", "\x1fdog", "\x85dog\x85",
    "\u2028dog\u2029cat", "www.", "www. dog", "WWW.-cat", "dog www", ".net", " .net dog", "-.info cat", ".jpg",
    "dog.jpg", "dog.JPG cat", "dog.jp", "dog.", ".dog", "...dog", "dog...cat", "http://", "http:// dog",
    "http:/dog", "ftp://x dog", "a://b://c dog", "://", "@", "@dog cat", "dog@cat bird", "x @ y", "%", "%%", "%4",
    "%41", "%2", "dog%20cat", "%E9t%C3%A9", "%ff dog", "100% dog", "%c3", "&", "&&", "&amp", "&amp;", "&ampdog",
    "&amp;amp;", "&amp;lt;b&amp;gt; dog", "&#100;og", "&#x64;og", "&#xD800;", "&#;", "&#0; dog", "&bogus; dog",
    "&notit;", "&eacute;t&eacute;", "<", ">", "<>", "<b", "a<b dog>c", "<<b>dog>", "<a href='x'>dog</a>",
    "e\u0301te\u0301", "\u0301", "dog\u0301", "d\u00f6g", "\u00df", "\ufb01sh", "\uff24\uff2f\uff27", "\ufeffdog",
    "d\u00adog", "dog\u200bcat", "dog\u200dcat", "犬", "犬 dog", "dog犬", "собака", "🐶", "dog🐶cat", "👩🏽‍🦰 dog",
    "№1 dog", "½ cup", "2² dog", "dog™", "“dog”", "‘dog’s’", "dog–cat", "dog—cat", "dog…cat", "«chien»",
    "\ufffd dog", "close-up", "close - up", "close_up of a dog", "hot-dog stand", "hot dogs dog",
    "ice cream cream", "cup of tea of tea", "traffic light lights", "a white house", "the White House",
    "some new york", "united states of america of america", "two golden retriever retrievers", "a b c d e f g",
    "A B C", "DOG CAT", "Dog Cat bird", "iPhone 6S 3D 2nd", "0", "1.5", "dog. Cat sat", 'dog "Cat" sat',
    "dog & cat + bird", "(dog) [cat] {bird}", "dog/cat|bird\\fish*", "dog, cat; bird: fish!", "un chien noir",
    "der Hund die Katze", "le la les", "dog der", "a dog and les chats", "zorbification", "q", "zzzz", "aaa1zz",
    "the run", "to run", "they run", "a run.", "saw", "the saw saw a saw", "can can can", "May may",
    "light lights up the light",
]  # fmt: skip

PIECES = (
    *"abcdogswnt", *"ASWNDX", *"0129", *"''--__\"\"``..,,  /|&+<>()%@#;:!?*\\\t\n", "\x00", "\x7f", "\x1c",
    "\x85", *"éßøÅçñ№½™’“–…\u0301\u200b\u00a0犬ж🐶", "'s", "'S ", "s'", "n't ", "&amp;", "&#39;", "&eacute;",
    "&lt;b&gt;", "&am", "%41", "%20", "%C3%A9", "%f", "<b>", "</b>", "<br", "http://", "www.", ".com", ".jpg",
    ".info", "@x", " the ", " a ", " an ", " his ", " of ", " le ", " und ", " not ", " is ", " to ", "dog",
    " dogs", " Dog", "hot", " hot dog", "cat", "ice", " cream", " cup of tea", "white", " White House", "New",
    " York", " City", "golden", " retriever", "mouse", " mice", " running", " runs", " light", " close", "-up",
    " saw", " crane", " bank", " keyboard", " river", " zorbing",
)  # fmt: skip

captions = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=25).map("".join),
    st.text(max_size=30),
    st.sampled_from(HOSTILE),
)
