"""The templates, in the order of use: titles, notes, places of their nodes, and the page that App mode makes of them.

Everything that a workflow in the API's format does not say is here; `make_workflows.py` joins both.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from musicgen.hub.releases import Release, named_release

NOTE_ID = "note"
GAP = 40
"""Room between columns."""


@dataclass(frozen=True)
class Kind:
    """Width and height of a kind of node; below it there is room for what it shows after a run."""

    width: int
    height: int


KINDS = {
    "MusicGenLoader": Kind(280, 122),
    "MusicGenTextEncode": Kind(270, 160),
    "MusicGenSampleTokens": Kind(295, 490),
    "MusicGenEnCodecDecode": Kind(280, 170),
    "MusicGenMelodyChroma": Kind(270, 50),
    "MusicGenEnCodecEncode": Kind(270, 50),
    "MusicGenStyle": Kind(270, 160),
    "MusicGenPlot": Kind(310, 360),
    "MusicGenDuration": Kind(270, 220),
    "MusicGenCurves": Kind(270, 230),
    "MusicGenMeasure": Kind(270, 560),
    "MusicGenScore": Kind(310, 560),
    "MusicGenTempoKey": Kind(270, 170),
    "MusicGenTimeline": Kind(420, 300),
    "MusicGenGuidance": Kind(290, 260),
    "MusicGenDataset": Kind(310, 560),
    "MusicGenTrainLora": Kind(310, 640),
    "MusicGenSaveLora": Kind(280, 110),
    "LossGraphNode": Kind(310, 360),
    "PreviewAny": Kind(300, 240),
    "MusicGenLongForm": Kind(290, 340),
    "MusicGenRank": Kind(310, 560),
    "MusicGenCatalogue": Kind(280, 240),
    "MusicGenFill": Kind(310, 640),
    "MusicGenLoop": Kind(310, 560),
    "AudioConcat": Kind(240, 90),
    "LoadAudio": Kind(280, 136),
    "RecordAudio": Kind(280, 110),
    "LoadVideo": Kind(280, 290),
    "LoadImage": Kind(240, 280),
    "SaveAudioAdvanced": Kind(280, 140),
    "SaveVideo": Kind(340, 340),
    "SaveImage": Kind(310, 360),
    "PreviewImage": Kind(270, 250),
    "MarkdownNote": Kind(280, 250),
}
DEFAULT_KIND = Kind(240, 100)


@dataclass(frozen=True)
class Template:
    """One template.

    words: of its note, its subject and the first change. columns: nodes from left to right, each with its id and
    its top; a column further right begins higher, so that wires from the loader pass above those before it. inputs:
    the widgets of App mode, as id of node and name of widget; outputs: ids of nodes whose results it shows. release:
    the model to download. bends: for a wire, by its two nodes and the slot of the first, the points that it passes,
    each as the number of the column that it passes on the right, and a height.
    """

    slug: str
    title: str
    words: str
    columns: tuple[tuple[tuple[int | str, int], ...], ...]
    inputs: tuple[tuple[int, str], ...]
    outputs: tuple[int, ...]
    release: str | None = None
    card: str = "spectrogram"
    bends: dict[tuple[int, int, int], tuple[tuple[int, int], ...]] = field(default_factory=dict)

    @property
    def released(self) -> Release | None:
        """The release that the template downloads."""
        return named_release(self.release) if self.release else None

    @property
    def file(self) -> str:
        """Name of the file without its ending, which the template browser shows as the title."""
        return f"{1 + [template.slug for template in TEMPLATES].index(self.slug):02} {self.title}"


FIRST = "**Change first:** "
SAVED = "The sound appears in *Save Audio*."
LOADER, TEXT, SAMPLER = ((1, 0), (NOTE_ID, 230)), ((2, 190),), ((3, 110),)
PLAIN = (LOADER, TEXT, SAMPLER, ((4, 0), (5, 330)))
PLOTTED = (LOADER, TEXT, SAMPLER, ((4, 0),), ((5, 0), (6, 280)))
BASIC = ((2, "text"), (3, "duration"), (3, "seed"), (1, "model"))

TEMPLATES = (
    Template(
        "text_to_music",
        "Text to Music",
        f"{FIRST}the description in *MusicGen Text Encode*, then press Run. {SAVED} Another *seed* makes another.",
        PLAIN,
        BASIC,
        (5,),
    ),
    Template(
        "melody_to_music",
        "Melody to Music",
        f"{FIRST}the recording in *Load Audio*, a melody that somebody hums, whistles or plays. Then describe the "
        f"sound that it gets and press Run. The music follows the notes that the picture shows. {SAVED}",
        (((1, 0), (6, 220), (NOTE_ID, 460)), ((2, 190), (7, 460), (8, 640)), SAMPLER, ((4, 0), (5, 330))),
        ((6, "audio"), *BASIC),
        (5,),
        card="piano roll",
    ),
    Template(
        "hum_to_orchestra",
        "Hum to Orchestra",
        f"{FIRST}press the red button in *Record Audio* and hum a melody for some seconds, then press Run. The "
        f"description chooses the instruments that play it. {SAVED}",
        (((1, 0), (3, 220), (NOTE_ID, 460)), ((2, 190), (4, 460), (8, 640)), ((5, 110),), ((6, 0), (7, 330))),
        ((3, "audio"), (2, "text"), (5, "duration"), (5, "seed")),
        (7,),
        card="piano roll",
    ),
    Template(
        "continue_music",
        "Continue a Recording",
        f"{FIRST}the beginning in *Load Audio*, then describe the music and press Run. *duration* is the length of "
        f"the whole piece, the beginning included. {SAVED}",
        (((1, 0), (6, 220), (NOTE_ID, 460)), ((2, 190), (7, 460)), SAMPLER, ((4, 0), (5, 330))),
        ((6, "audio"), *BASIC),
        (5,),
    ),
    Template(
        "long_piece",
        "Long Piece",
        f"{FIRST}*duration*, up to an hour. Beyond its window the model goes on from the end of the last part; "
        f"*MusicGen Long Form* draws parts again that drift away from the first, and fades the end. {SAVED}",
        (LOADER, ((2, 320), (7, 540)), SAMPLER, ((4, 0),), ((5, 0), (6, 280))),
        BASIC,
        (5,),
        bends={(7, 0, 4): ((1, 900), (2, 900), (2, 70))},
    ),
    Template(
        "stereo",
        "Stereo",
        f"{FIRST}the description. The picture shows the left and the right channel. {SAVED}",
        PLOTTED,
        BASIC,
        (5,),
        release="musicgen-stereo-small",
    ),
    Template(
        "sound_effects",
        "Sound Effects",
        f"{FIRST}the description: AudioGen makes noises of things, animals and places, not music. {SAVED}",
        PLOTTED,
        BASIC,
        (5,),
        release="audiogen-medium",
    ),
    Template(
        "style_of_a_recording",
        "Style of a Recording",
        f"{FIRST}the recording in *Load Audio*: the music will sound like it, with other notes. A higher *text over "
        f"style* brings the description out. {SAVED}",
        (((1, 0), (3, 220), (NOTE_ID, 460)), ((2, 190), (4, 460)), ((5, 110),), ((6, 0), (7, 330))),
        ((3, "audio"), (2, "text"), (5, "duration"), (5, "seed")),
        (7,),
        release="musicgen-style",
    ),
    Template(
        "prompt_blend",
        "Prompt Blend",
        f"{FIRST}the two descriptions, then the strength in *Blend of both*: 1 is the first, 0 the second. {SAVED}",
        (LOADER, ((2, 230), (3, 470)), ((4, 230),), ((5, 110),), ((6, 0), (7, 330))),
        ((2, "text"), (3, "text"), (4, "conditioning_to_strength"), (5, "seed")),
        (7,),
    ),
    Template(
        "story_in_sections",
        "Story in Sections",
        f"{FIRST}the three descriptions. Each holds for a third of the piece; *start* and *end* move the borders. "
        f"{SAVED}",
        (
            ((1, 0), (NOTE_ID, 230)),
            ((2, 250), (3, 490), (4, 730)),
            ((5, 240), (6, 480), (7, 720)),
            ((8, 230), (9, 470)),
            ((10, 110),),
            ((11, 0), (12, 330), (13, 580)),
        ),
        ((2, "text"), (3, "text"), (4, "text"), (10, "duration"), (10, "seed")),
        (12,),
    ),
    Template(
        "codebook_patterns",
        "Pattern Lab",
        f"**One description and one seed through four codebook patterns.** {FIRST}the description, or a *codebook "
        "pattern*. The pictures on the samplers show the codes. A sampler says so where the model does not know its "
        "pattern, and then it makes noise. *flatten* takes four times as many steps. The pack's *docs/patterns.md* "
        "compares models that were trained on each pattern.",
        (
            ((1, 0), (NOTE_ID, 230)),
            ((2, 60),),
            ((3, 60), (7, 860)),
            ((4, 60), (8, 860)),
            ((5, 60), (9, 860)),
            ((6, 60), (10, 860)),
        ),
        ((2, "text"), (3, "seed"), (4, "seed"), (5, "seed"), (6, "seed")),
        (7, 8, 9, 10),
        bends={
            **{(1, 0, 3 + k): ((1 + k, -60),) for k in range(4)},
            **{(2, 0, 3 + k): ((1, -10), (1 + k, -35)) for k in range(1, 4)},
            **{(1, 2, 7 + k): ((0, 54), (0, 805), (1 + k, 805)) for k in range(4)},
        },
    ),
    Template(
        "music_for_a_video",
        "Music for a Video",
        f"{FIRST}the video in *Load Video*, then describe its music and press Run. *MusicGen Duration* makes the music "
        "as long as the video. *Save Video* shows and saves both together.",
        (
            ((1, 0), (3, 220), (NOTE_ID, 620)),
            ((2, 190), (4, 450), (7, 880)),
            ((5, 110),),
            ((6, 0), (8, 880)),
            ((9, 360),),
        ),
        ((3, "file"), (2, "text"), (5, "seed")),
        (9,),
        card="film",
    ),
    Template(
        "slideshow",
        "Music for a Slideshow",
        f"{FIRST}the three pictures, then describe the music and press Run. *amount* is how long each picture stays, "
        "in images, and there are eight images in a second.",
        (
            ((3, 0), (4, 380), (5, 760)),
            ((1, 0), (6, 230), (7, 370), (8, 510), (NOTE_ID, 660)),
            ((2, 190), (10, 450), (9, 880)),
            ((11, 110),),
            ((12, 0), (13, 880)),
            ((14, 360),),
        ),
        ((3, "image"), (4, "image"), (5, "image"), (2, "text"), (11, "seed")),
        (14,),
        card="film",
        bends={(10, 2, 13): ((2, 504), (2, 850))},
    ),
    Template(
        "picture_to_music",
        "Picture to Music",
        f"{FIRST}the picture, and describe its mood as music in *The picture in words*; the model hears words alone. "
        "Chromagram and spectrogram of the music are images like any other: here they become a poster.",
        (
            ((1, 0), (3, 220), (NOTE_ID, 580)),
            ((2, 190),),
            ((4, 110),),
            ((5, 0), (6, 330)),
            ((7, 0), (8, 480)),
            ((9, 0), (10, 230), (11, 460)),
        ),
        ((3, "image"), (2, "text"), (4, "duration"), (4, "seed")),
        (6, 11),
        card="poster",
        bends={(3, 0, 9): ((0, 240), (0, 920), (4, 920), (4, 30))},
    ),
    Template(
        "beat_driven_pictures",
        "Beat-Driven Pictures",
        f"{FIRST}the picture and the description, then press Run. The picture grows sharp where the music is loud and "
        "flashes on each beat. *fade* in *MusicGen Curves* is the length of a flash.",
        (
            ((1, 0), (5, 220), (NOTE_ID, 600)),
            ((2, 190), (6, 865)),
            ((3, 110), (9, 865), (12, 1000)),
            ((4, 0), (7, 350), (10, 865)),
            ((8, 0), (11, 865)),
            ((14, 330), (15, 510), (13, 920)),
        ),
        ((5, "image"), (2, "text"), (3, "duration"), (3, "seed")),
        (15,),
        card="film",
        bends={
            (6, 0, 11): ((1, 880), (1, 1130), (3, 1130), (3, 900)),
            (12, 0, 13): ((2, 1015), (2, 1110), (4, 1110), (4, 940)),
            (4, 0, 14): ((3, 14), (3, 315), (4, 315)),
        },
    ),
    Template(
        "catalogue",
        "Catalogue",
        f"**A piece for each row of a catalogue.** {FIRST}put a CSV or JSONL file with a header such as "
        "*id,description,duration,seed* into ComfyUI's input folder, choose it in *MusicGen Catalogue* and press Run: "
        "the graph runs once for each row. `python -m musicgen.rendering` spreads the rows of this graph over several "
        "servers.",
        (((1, 0), (6, 420), (NOTE_ID, 740)), TEXT, SAMPLER, ((4, 0), (5, 330))),
        ((6, "catalogue"), (1, "model")),
        (5,),
        bends={
            (6, 2, 3): ((0, 474), (1, 420)),
            (6, 3, 3): ((0, 494), (1, 440)),
            (6, 4, 5): ((0, 514), (0, 845), (2, 845), (2, 380)),
        },
    ),
    Template(
        "guidance_measured",
        "Guidance, Measured",
        f"**Two values of guidance, measured.** {FIRST}the recording in *Load Audio*. The samplers differ in "
        "*guidance* alone. *MusicGen Measure* gives the distance of each batch and of each piece to the recording, and "
        "draws their embeddings. Connect its *ranking* to *marked* of *MusicGen Pick* to sort the pieces.",
        (
            ((1, 0), (2, 200), (3, 430), (NOTE_ID, 680)),
            *(
                column
                for k in (0, 5)
                for column in (((4 + k, 40), (5 + k, 856)), ((6 + k, 40), (7 + k, 690), (8 + k, 1000)))
            ),
        ),
        ((3, "audio"), (2, "text"), (4, "cfg_coef"), (9, "cfg_coef")),
        (8, 13),
        bends={
            (1, 0, 9): ((0, -4), (2, -4)),
            (2, 0, 9): ((0, 214), (0, -20), (2, -20)),
            (1, 2, 5): ((0, 54), (0, 870)),
            (1, 2, 10): ((0, 54), (0, -36), (2, -36), (2, 870)),
            **{(1, 2, 6 + 5 * k): ((0, 54), (0, -36), (1 + 2 * k, -36), (1 + 2 * k, 74)) for k in (0, 1)},
            **{(3, 0, 6 + 5 * k): ((0, 444), (0, -52), (1 + 2 * k, -52), (1 + 2 * k, 94)) for k in (0, 1)},
        },
    ),
    Template(
        "best_of_four",
        "Best of Four",
        f"**Four pieces, and the best of them.** {FIRST}the description; name a tempo and a key, as here. *MusicGen "
        "Rank* measures how well each piece keeps them and shows the scores. *pieces to keep* is 1; 0 passes on all, "
        f"sorted. {SAVED}",
        (LOADER, TEXT, SAMPLER, ((4, 0),), ((5, 0),), ((6, 0),)),
        ((2, "text"), (3, "batch_size"), (3, "seed"), (5, "keep"), (1, "model")),
        (6,),
        bends={(3, 0, 5): ((2, 140), (2, 440), (3, 440), (3, 60))},
    ),
    Template(
        "score_to_music",
        "Score Leads the Music",
        f"**Written music leads.** {FIRST}the tune in *MusicGen Score*: ABC text, chords such as C | G | Am | F, "
        "notes, or a MIDI file. Then describe its sound in *MusicGen Tempo and Key*, which adds the score's tempo, and "
        f"press Run. Bright notes in the picture lead the music. {SAVED}",
        (LOADER, ((6, 250),), ((7, 260),), ((2, 170),), ((3, 110),), ((4, 0), (5, 330))),
        ((6, "text"), (6, "source"), (7, "text"), (7, "key"), (3, "seed")),
        (5,),
        bends={(6, 0, 3): ((1, 480), (3, 480)), (6, 2, 3): ((1, 500), (3, 500))},
    ),
    Template(
        "timeline",
        "Timeline",
        f"**One line for each section.** {FIRST}the lines of *MusicGen Timeline*. *+* adds a phrase, *-* takes one "
        f"out, and *~1 bar* lets the music change for a bar. {SAVED}",
        (LOADER, ((2, 190),), SAMPLER, ((4, 0),), ((5, 0), (6, 280))),
        ((2, "timeline"), (2, "bpm"), (3, "duration"), (3, "seed"), (1, "model")),
        (5,),
    ),
    Template(
        "guidance_shaped",
        "Guidance, Shaped",
        f"**Numbers that change during the piece.** {FIRST}the fields of *MusicGen Guidance*. Here the melody leads "
        "for five seconds, then fades out, while guidance grows. *(rock drums:1.4)* in the description weighs these "
        "words. "
        f"{SAVED}",
        (
            ((1, 0), (6, 220), (NOTE_ID, 460)),
            ((2, 190), (7, 460), (8, 640)),
            SAMPLER,
            ((4, 0),),
            ((5, 0), (9, 280)),
        ),
        ((6, "audio"), (2, "text"), (8, "cfg_coef"), (8, "lead_strength"), (3, "seed")),
        (5,),
        card="piano roll",
    ),
    Template(
        "another_take",
        "Another Take of a Section",
        f"**The same piece, but for two seconds.** {FIRST}the *sections* in *MusicGen Fill* and its *seed*. The "
        f"section fits the music before and behind it, and all else stays bit for bit. {SAVED}",
        (LOADER, TEXT, SAMPLER, ((4, 150),), ((5, 0), (6, 330))),
        ((2, "text"), (3, "seed"), (4, "sections"), (4, "seed"), (1, "model")),
        (6,),
        bends={
            (1, 0, 4): ((0, 30), (2, 30)),
            (1, 2, 4): ((0, 60), (2, 60)),
            (2, 0, 4): ((1, 380), (1, 780), (2, 780), (2, 340)),
        },
    ),
    Template(
        "seamless_loop",
        "Seamless Loop",
        f"**Four bars whose end flows into their beginning.** {FIRST}the description, with its tempo, and the same "
        "*bpm* in *MusicGen Loop*. One *Save Audio* keeps the loop, exact to the sample, the other one the loop played "
        "twice, for the ear.",
        (LOADER, TEXT, ((3, 110),), ((4, 0),), ((5, 0), (6, 330)), ((7, 330),)),
        ((2, "text"), (3, "bpm"), (3, "bars"), (3, "seed"), (1, "model")),
        (5, 7),
        bends={(1, 2, 3): ((0, 110), (1, 110))},
    ),
)
BY_SLUG = {template.slug: template for template in TEMPLATES}
