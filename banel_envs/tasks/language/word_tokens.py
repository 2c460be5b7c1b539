"""The tokens of word problems and of their solutions.

A token prints with the spaces about it, so that the tokens of a text, put together, read as English:
"Ann has 12 eggs. Ann buys 3 bags of 4 eggs. How many eggs does Ann have? 3*4=12; 12+12=24; #### 24".
"""

from __future__ import annotations

DIGITS = tuple("0123456789")
STEP_END, MARK, END = "; ", "#### ", ""
NAMES = ("Ann", "Ben", "Cal", "Dee", "Eli", "Fay")
OBJECTS = (" cups", " eggs", " figs", " nuts", " pens", " stamps")
VERBS = (" has ", " buys ", " finds ", " gets ", " eats ", " loses ", " sells ", " gives ", " pays ")
OTHER = (
    *(" bags of ", " boxes of ", " then has ", " times as many", " keeps one of ", " equal parts", " to ", " coins"),
    *(". ", "How many", " does ", " have? "),
)
VOCABULARY = (*DIGITS, *"+-*/=", STEP_END, MARK, *NAMES, *OBJECTS, *VERBS, *OTHER, END)
TOKEN = {text: k for k, text in enumerate(VOCABULARY)}
END_TOKEN = TOKEN[END]
