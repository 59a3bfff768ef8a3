"""The texts that the simulated model knows by heart."""

from __future__ import annotations

from typing import Final

_POEM: Final = (
    "The ocean hums a patient tune,\n"
    "and lends its silver to the moon;\n"
    "it writes on sand, then rubs it out,\n"
    "and never tells what it’s about.\n"
    "\n"
    "A thousand rivers came to stay,\n"
    "and none has ever lost its way;\n"
    "for every wave that leaves the shore\n"
    "comes home again, and brings one more."
)

_STORY: Final = (
    "Dr. Inès Moreau had one rule: look, and leave nothing behind. For eleven years she "
    "kept it. She stood at the edge of crowds in Athens and Córdoba, wrote in a small "
    "grey book, and went home before supper.\n"
    "\n"
    "Then, in a monastery above Zürich, in the winter of 1349, she found a page in her "
    "own handwriting. “Do not correct the date in chapter four,” it said. She had not "
    "written it yet.\n"
    "\n"
    "She looked at chapter four. The date was wrong by a single day. Every bone of her "
    "wanted to mend it. Instead she took out a pen, copied the warning on to a fresh "
    "sheet, and laid it where the old one had been.\n"
    "\n"
    "Back home, all was as it should be: the street, the kettle, the cat. Only the grey "
    "book had one page fewer. She smiled, and began chapter five."
)

_LESSON: Final = (
    "Imagine a big room full of little helpers, all holding hands in rows. You show the "
    "first row a picture. Each helper looks at one tiny bit of it and whispers to the "
    "next row: “I see something pointy!” or “I see something fluffy!”\n"
    "\n"
    "The next row listens to all the whispers and makes a better guess: “Pointy and "
    "fluffy… that could be ears!” And the last row shouts: “It’s a cat!”\n"
    "\n"
    "At first they guess wrong, a lot. Each time, we say “No, that was a dog,” and every "
    "helper learns whom to listen to a bit more, and whom a bit less. After many, many "
    "pictures they get very good at it. That is a neural network: lots of little helpers "
    "who learn together by guessing."
)

#: Words that a message must hold, all of them, and the answers to it, one for each choice.
#: The first line that fits is taken, so the more special ones stand first.
SCRIPTED: Final[tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]] = (
    (
        ("capital", "france"),
        (
            "The capital of France is Paris.",
            "Paris is the capital of France.",
            "It is Paris, on the Seine.",
        ),
    ),
    (
        ("controversial", "joke"),
        (
            "Tabs or spaces? I would tell you which is right — but I like to keep my friends.",
            "Two editors walk into a bar. Nobody there has agreed on anything since.",
        ),
    ),
    (
        ("tell me another",),
        (
            "I asked my computer for a break. It gave me a breakpoint.",
            "My password manager forgot me. At least one of us has moved on.",
        ),
    ),
    (
        ("joke",),
        (
            "Why was the queue so calm? It knew that its turn would come.",
            "A cache walks into a bar and orders what it had last time.",
        ),
    ),
    (
        ("poem", "ocean"),
        (
            _POEM,
            "Blue upon blue, and under it, night;\nover it, gulls and a handful of light.",
        ),
    ),
    (
        ("time", "travel", "historian"),
        (_STORY,),
    ),
    (
        ("neural network",),
        (_LESSON,),
    ),
    (
        ("weather",),
        ("I cannot look out of a window from here. Offer me a weather tool, and I will ask it.",),
    ),
)

#: What the model thinks aloud where thinking is asked for.
THOUGHT: Final = (
    "I read the question twice. It asks for one thing, so one plain answer will do — "
    "no need to show every step."
)

#: Answers to anything else are made of these.
SENTENCES: Final = (
    "A good queue is like a good café: nobody waits for long, and nobody is forgotten.",
    "The shortest way home is often the one that you have already walked.",
    "When two clocks disagree, ask them both again, and trust neither.",
    "Small tools, kept sharp, outlast the clever ones.",
    "It rained in Reykjavík, and the ships came in one after the other.",
    "What is written down twice will be true once.",
    "The lighthouse keeper counts the ships; the ships count on the lighthouse keeper.",
    "Patience is only a retry with a longer back-off.",
    "Nothing travels faster than a rumour — except, perhaps, its correction.",
    "Every bridge was a drawing first, and every drawing was a doubt.",
    "The garden was naïve enough to bloom in March.",
    "A letter that arrives late is still a letter.",
    "Measure first, then cut; the cloth will not grow back.",
    "Old maps are full of dragons, new ones full of roads.",
    "Somewhere a piano is being tuned, one patient note at a time.",
    "The train leaves at 07:40, with or without the conductor’s hat. 🎩",
)
