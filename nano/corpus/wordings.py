"""The words of captions: for each attribute and value its wordings, and the words around them that mean nothing.

No wording stands for two values of an attribute.
"""

from __future__ import annotations

LEAD_FORMS = (
    "{}",
    "{}",
    "{} melody",
    "{} lead",
    "{} solo",
    "lead {}",
    "solo {}",
    "{} playing the melody",
    "{} theme",
    "melodic {}",
    "{} riff",
    "{} line",
)
CHORD_FORMS = (
    "{} chords",
    "chords on {}",
    "{} in the background",
    "{} playing chords",
    "{} accompaniment",
    "backing {}",
    "{} backing",
    "{} comping",
    "rhythm {}",
)
LEADS = {
    "piano": ("piano", "grand piano"),
    "electric piano": ("electric piano", "rhodes", "keys"),
    "organ": ("organ", "hammond organ", "hammond"),
    "accordion": ("accordion", "squeezebox"),
    "acoustic guitar": ("acoustic guitar", "guitar", "steel guitar"),
    "electric guitar": ("electric guitar", "clean guitar", "clean electric guitar"),
    "distorted guitar": ("distorted guitar", "overdriven guitar", "heavy guitar", "distorted electric guitar"),
    "violin": ("violin", "fiddle"),
    "choir": ("choir", "voices", "vocals"),
    "trumpet": ("trumpet", "horn"),
    "saxophone": ("saxophone", "sax", "tenor sax"),
    "flute": ("flute", "woodwind"),
    "vibraphone": ("vibraphone", "vibes", "mallets", "marimba"),
    "music box": ("music box", "bells", "celesta", "glockenspiel"),
    "synth": ("synth", "synthesizer", "synthesizers", "saw synth", "synths"),
    "chiptune": ("chiptune", "8 bit", "square synth", "video game synth"),
}
CHORDS = {
    "piano": ("piano", "grand piano"),
    "electric piano": ("electric piano", "rhodes", "keys"),
    "acoustic guitar": ("acoustic guitar", "guitar"),
    "distorted guitar": ("distorted guitar", "power chord guitar"),
    "organ": ("organ", "hammond organ"),
    "strings": ("strings", "violins"),
    "brass": ("brass", "horns"),
    "pad": ("synth pad", "pads", "synth"),
}
CHORDS_ALONE = {
    "strings": ("strings", "string section", "string orchestra"),
    "brass": ("brass section", "brass", "horn section"),
    "pad": ("pads", "synth pads", "warm pads", "pad"),
    "distorted guitar": ("power chords",),
    "acoustic guitar": ("strummed guitar",),
}
"""Chord instruments that need no word beside them."""
WORDINGS: dict[str, dict[object, tuple[str, ...]]] = {
    "genre": {
        "pop": ("pop", "pop music", "radio pop"),
        "rock": ("rock", "90s rock", "classic rock", "indie rock", "alternative rock", "punk"),
        "metal": ("metal", "heavy metal", "hard rock", "thrash"),
        "electronic": ("electronic", "edm", "techno", "house", "electro", "trance", "electronic dance"),
        "synthwave": ("synthwave", "80s electronic", "80s synth pop", "retrowave", "80s pop"),
        "jazz": ("jazz", "jazzy", "smooth jazz", "swing jazz", "bebop"),
        "hip hop": ("hip hop", "rap", "trap", "boom bap"),
        "lofi": ("lofi", "lo fi", "lofi hip hop", "chillhop"),
        "ambient": ("ambient", "meditation", "new age", "atmospheric"),
        "classical": ("classical", "orchestral", "chamber music", "baroque", "symphonic"),
        "folk": ("folk", "country", "celtic", "acoustic folk", "bluegrass"),
        "funk": ("funk", "soul", "disco", "funky"),
        "reggae": ("reggae", "dub", "ska"),
        "latin": ("latin", "bossa nova", "salsa", "samba"),
        "blues": ("blues", "bluesy", "blues rock"),
        "lullaby": ("lullaby", "nursery", "cradle song"),
    },
    "mode": {
        "major": ("happy", "cheerful", "bright", "joyful", "uplifting", "sunny", "hopeful", "playful"),
        "minor": ("sad", "dark", "melancholic", "moody", "emotional", "gloomy", "mysterious", "sombre"),
    },
    "pace": {
        "slow": ("slow", "calm", "relaxing", "peaceful", "slow bpm", "slow tempo"),
        "medium": ("mid tempo", "steady", "moderate", "medium tempo"),
        "fast": ("fast", "energetic", "upbeat", "driving", "high energy", "fast paced"),
    },
    "beats": {3: ("waltz", "3/4", "in three", "in 3/4 time")},
    "bass_style": {
        "acoustic bass": ("acoustic bass", "double bass", "upright bass"),
        "bass guitar": ("bass guitar", "electric bass", "round bass"),
        "synth bass": ("synth bass", "deep bass", "sub bass", "808 bass"),
    },
    "bass": {
        True: ("bass", "bass line", "groovy bass", "strong bass", "a bass line", "heavy bass", "punchy bass"),
        False: ("no bass", "without bass"),
    },
    "kit": {
        "standard": ("acoustic drums", "drum kit", "live drums"),
        "power": ("heavy drums", "powerful drums", "loud drums", "hard hitting drums"),
        "electronic": ("electronic drums", "drum machine", "synthetic drums"),
        "808": ("808 drums", "808 beat", "808s"),
        "jazz": ("jazz drums", "jazz kit"),
        "brushes": ("brushed drums", "soft drums", "gentle drums", "brushes"),
    },
    "drum_pattern": {
        "rock": ("rock beat", "rock drums", "backbeat"),
        "heavy": ("metal drums", "pounding drums", "double kick drums"),
        "dance": ("four on the floor beat", "dance beat", "club beat", "house beat"),
        "hip hop": ("hip hop beat", "hip hop drums", "boom bap beat", "trap beat"),
        "brushes": ("laid back beat", "light beat"),
        "swing": ("swing beat", "swinging drums", "swing drums"),
        "funk": ("funky beat", "funk drums", "groovy drums", "funky drums"),
        "reggae": ("reggae beat", "one drop drums", "reggae drums"),
        "latin": ("latin percussion", "latin drums", "bossa nova beat", "congas"),
    },
    "drums": {
        True: (
            "drums",
            "a drum beat",
            "percussion",
            "beat",
            "catchy beat",
            "steady beat",
            "drum beat",
            "snare drums",
            "drums and cymbals",
            "punchy drums",
            "full drums",
        ),
        False: ("no drums", "without drums", "no percussion", "without percussion", "drumless", "no beat"),
    },
    "ending": {True: ("ending", "outro", "final chord", "finale")},
}
KEY_NAMES = (
    ("c",),
    ("c sharp", "d flat"),
    ("d",),
    ("e flat", "d sharp"),
    ("e",),
    ("f",),
    ("f sharp", "g flat"),
    ("g",),
    ("a flat", "g sharp"),
    ("a",),
    ("b flat", "a sharp"),
    ("b",),
)
NOUNS = ("song", "track", "tune", "music", "piece", "instrumental", "loop", "composition", "jam", "groove")
TEMPO = ("{} bpm", "at {} bpm", "tempo {} bpm", "bpm: {}", "a tempo of {} bpm", "tempo: {}", "{} beats per minute")
KEY = ("in {}", "in the key of {}", "key of {}", "key: {}", "{}")
EMPTY = (
    *("beautiful", "catchy", "nice", "great", "melodic", "smooth", "epic", "dreamy", "warm", "cool", "simple"),
    *("groovy", "modern", "vintage", "retro", "organic", "lush", "gentle", "soft", "heavy", "rich", "clean"),
    *("short", "original", "instrumental", "full", "chill", "90s", "70s", "cinematic", "romantic"),
)
"""Adjectives that promise nothing that is measured."""
EMPTY_PARTS = ("organic samples", "a catchy melody", "lots of feeling", "good vibes", "a nice groove", "studio quality")
OPENINGS = ("", "", "", "", "", "make ", "create ", "generate ", "i want ", "please play ", "compose ")
WITH = (" with ", " with ", " featuring ", " including ", " that has ", ", ", " made of ", " built on ", ": ")
