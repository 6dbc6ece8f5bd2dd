"""The texts on which an import looks whether an SAE fits: old prose, plain sentences of today, and code.

The first four are in the public domain (Austen 1813, Lincoln 1863, Darwin 1859, Carroll 1865), the others are
of this project. Figures of different SAEs can be compared as long as these texts stay as they are.
"""

TEXTS = (
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in"
    " want of a wife. However little known the feelings or views of such a man may be on his first entering"
    " a neighbourhood, this truth is so well fixed in the minds of the surrounding families, that he is"
    " considered as the rightful property of some one or other of their daughters.",
    "Four score and seven years ago our fathers brought forth on this continent, a new nation, conceived in"
    " Liberty, and dedicated to the proposition that all men are created equal. Now we are engaged in a great"
    " civil war, testing whether that nation, or any nation so conceived and so dedicated, can long endure.",
    "There is grandeur in this view of life, with its several powers, having been originally breathed into a"
    " few forms or into one; and that, whilst this planet has gone cycling on according to the fixed law of"
    " gravity, from so simple a beginning endless forms most beautiful and most wonderful have been, and are"
    " being, evolved.",
    "Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do:"
    " once or twice she had peeped into the book her sister was reading, but it had no pictures or"
    ' conversations in it, "and what is the use of a book," thought Alice, "without pictures or'
    ' conversations?"',
    "The city council voted on Tuesday to close the old bridge to cars from next spring. Engineers had warned"
    " for years that the steel was corroding, and a new crossing two miles upstream is expected to open in"
    " the autumn. Shop owners on the east bank said they feared losing customers, while cyclists welcomed the"
    " decision.",
    "To make the soup, chop two onions and fry them gently in a spoonful of olive oil until they are soft."
    " Add the carrots, a pinch of salt and a liter of water, and let it simmer for half an hour. Blend it,"
    " taste it, and serve it hot with fresh bread and a little parsley.",
    "Photosynthesis is the process by which plants turn light, water and carbon dioxide into sugar and"
    " oxygen. It takes place in the chloroplasts, where chlorophyll absorbs mostly red and blue light; the"
    " green light that is left over is reflected, which is why leaves look green to us.",
    "Thanks for getting back to me so quickly! I tried what you suggested, but the printer still says that"
    " it is offline. I have restarted the router twice and checked the cable. Should I uninstall the driver"
    " first, or is there something else we could try before I take it back to the store?",
    "The company reported revenue of 4.2 billion dollars for the third quarter, up 7 percent from a year"
    " earlier, and raised its forecast for 2019. Shares rose 3.1 percent in early trading in New York. The"
    " chief executive said that demand in Europe and Asia had been stronger than expected.",
    "A triangle with sides of length 3, 4 and 5 has a right angle, since 9 + 16 = 25. More generally, if m"
    " and n are whole numbers with m > n, then m^2 - n^2, 2mn and m^2 + n^2 are the sides of such a triangle."
    " This was known to Euclid, and probably to the Babylonians long before him.",
    "def mean(values):\n"
    '    """Return the arithmetic mean of a list of numbers."""\n'
    "    if not values:\n"
    '        raise ValueError("mean() of an empty list")\n'
    "    total = 0.0\n"
    "    for value in values:\n"
    "        total += value\n"
    "    return total / len(values)\n",
    "function debounce(callback, delay) {\n"
    "  let timer = null;\n"
    "  return (...args) => {\n"
    "    clearTimeout(timer);\n"
    "    timer = setTimeout(() => callback(...args), delay);\n"
    "  };\n"
    "}\n\n"
    'window.addEventListener("resize", debounce(() => console.log(window.innerWidth), 200));\n',
)
