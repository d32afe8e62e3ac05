"""Name patterns: words that introduce a person before or after a name, and how names are written."""

import re

from data_pipeline.clinical_text.name_lexicon import listed_words
from data_pipeline.notes.deidentification.indexed_text import IndexedPattern
from data_pipeline.notes.deidentification.regex import caseless

_UPPER = "".join(filter(str.isupper, map(chr, [*range(0x250), *range(0x1E00, 0x1F00)])))
"""Every capital letter of the Latin script: names begin with Ř and Ő as well as with A."""
WORD = r"[^\W\d_]++(?:['’-][^\W\d_]++){0,4}"
_JOINED = r"(?:[ODdl]['’]|(?:al|el|ar|as|ash|az)-)"
CAPITAL = rf"(?:{_JOINED}?[{_UPPER}][^\W\d_]*+(?:['’-](?!s\b|S\b)[^\W\d_]++){{0,4}})"
PARTICLE = (
    r"(?:van der|van den|van de|van|von der|von|der|den|ter|ten|de la|de las|de los|de|del|della|da"
    r"|dos|das|do|di|du|le|la|el|al|bin|ibn|ben|af|av|y|e)"
)
NAME = rf"(?:(?:{PARTICLE} )?(?:[{_UPPER}]\.|{CAPITAL}))"
RUN = rf"{NAME}(?:,? (?:Jr|Sr|II|III|IV)\b\.?|,? {NAME}){{0,4}}"
"""Capitalised words in a row, with commas and suffixes between them: ``Garcia-Lopez, Jean-Luc P.``"""
PAIR = rf"{NAME}(?: {NAME}){{0,3}}"

TITLE = IndexedPattern(
    r"(?<!\w)(?:(?i:dr|drs|mr|mrs|ms|mx|messrs|mme|prof|rev|fr|sr)\b\.?|(?i:doctor|professor|miss|mister"
    r"|nurse|sister|father|reverend|rabbi"
    r"|pastor|chaplain|attorney|judge|officer|captain|sgt|lt|col|senator|governor|congress(?:man|woman)|councill?or"
    r"|ambassador|mayor|detective|deputy|sheriff|constable|inspector|warden|trooper|sheikh?"
    r"|monsignor|archbishop)\b)[ \t]*\n?"
    rf"(?!(?i:drs?|mrs?|ms|prof)\b)(?:St\.[ \t])?(?P<name>{PAIR})"
)
INITIALS_TITLED = IndexedPattern(
    r"(?<!\w)(?:(?:Dr|Mr|Mrs|Ms)\b(?:\.[ \t]?|[ \t])|(?:DR|MR|MRS|MS)\.[ \t]?)(?P<name>[A-Z]\.(?:[ ]?[A-Z]\.){0,2}"
    r"|[A-Z](?![\w.'’/-]))"
)
"""``Mr. T.K.``: who is called by a title and initials."""
LOWER_TITLE = IndexedPattern(
    rf"(?<!\w)(?i:dr|mr|mrs|ms)\b\.?[ \t]+(?!and\b|or\b)(?P<name>[a-z][a-z'’-]+(?:[ \t]+{WORD})?)"
)
ROLE = (
    r"patient(?:['’]s)?(?: name)?|pt(?: name)?|(?:full |last |first |maiden |legal |preferred |family "
    r"|given |sur|middle )?name|attending(?: physician| md)?"
    r"|admitting(?: physician| md)?|pcp|pmd|primary (?:care )?(?:physician|doctor|provider|md)"
    r"|referring(?: physician| md| provider)?|surgeons?"
    r"|(?:first )?assistants?|anesthesiologist|anesthetist|resident|intern|fellow|student|attention|provider"
    r"|author|consultant"
    r"|consulting physician|cardiologist|"
    r"nephrologist|neurologist|oncologist|urologist|pulmonologist|endocrinologist|gastroenterologist"
    r"|psychiatrist|therapist|pharmacist|"
    r"dentist|podiatrist|radiologist|pathologist|hospitalist|physician|doctor|midwife|hcp|health ?care proxy"
    r"|donor|recipient"
    r"|proxy|next of kin|nok|"
    r"emergency contact|contact(?: person)?|guardian|informant|interpreter|translator|social worker"
    r"|case manager|nurse|rn|scribe|witness|"
    r"technologist|technician|operator|to|from|re|attn|mother|father|parent|spouse|wife|husband|son|daughter"
    r"|sister|brother|partner"
    r"|(?:electronically )?signed(?: electronically)?|(?:e-?)?signature"
    r"|(?:note|signed|written|entered|completed|ordered) by"
)
LABEL = IndexedPattern(
    rf"(?<!\w){caseless(ROLE)}(?:\(s\))?[ \t]*(?::|=|\bis\b|\bwas\b)[ \t]*(?:(?i:dr|mr|mrs"
    rf"|ms)\b\.?[ \t]*)?(?P<name>{RUN})"
)
RANK = IndexedPattern(
    r"(?<!\w)(?:RN|LPN|CNA|CRNA|APRN|ARNP|NP|PA-C|EMT|PCT|(?:Capt|Maj|Gen|Cpl|Cmdr|Adm|Hon|Lieutenant|Major|Corporal"
    r"|General|Admiral|Sir|Dame|Lord|Lady|Imam|Cantor|Bishop|Deacon|Sra|Srta|Do[nñ]a|Frau|Herr|Monsieur|Madame|Signora?"
    r"|Senhora?|Pan|Pani)\b\.?)"
    rf"[ \t]+(?P<name>{PAIR})"
)
"""A credential, a rank or a title of another language, which mostly stands before a name."""
PLURAL = IndexedPattern(
    rf"(?<!\w)[tT]he (?P<name>{CAPITAL})(?<=s)(?![\w'’-])(?P<does>[ \t]+(?:(?:(?:have|had|will|would|both|all|also|now"
    r"|then|still|do|did|not)[ \t]+){0,3}(?:agree|agreed|understand|understood|want|wanted|wish|wished|ask|asked|came"
    r"|come|visit|visited|call|called|live|lived|decide|decided|decline|declined|say|said|report|reported|feel|felt|know"
    r"|knew|hope|hoped|are aware)|(?:were|are|have been|had been)[ \t]+(?:(?:both|all|also|now|not)[ \t]+){0,2}"
    r"(?:informed|updated|at (?:the )?bedside|tearful|worried|upset|aware|concerned))\b)?"
)
"""``The Abernathys``: a family by its name; ``the Dopplers`` are none."""
AMONG_PEOPLE = re.compile(
    r"(?<!\w)(?i:with|to|from|by|for|told|called|met|informed|saw|see|visited|updated) $"
)
SPELLED = IndexedPattern(
    r"(?<!\w)(?i:spell(?:ed|s|ing)?|names?)"
    r"(?:[ \t]+(?:as|out|is|it|spelled|her|his|the|surname|last|first|name)){0,4}[ \t:]{1,3}"
    r"(?P<name>[A-Z](?:[ .-]{1,2}[A-Z]){2,24})(?![\w'’-])"
)
NICKNAME = IndexedPattern(
    r"(?<!\w)"
    + caseless(
        r"goes by|go by|(?:likes|prefers|wants|asks) to be called|answers to(?= the n)|nicknamed?(?: is| was|:)?"
        r"|initials(?: are|:)?"
    )
    + rf"(?: the (?:nick)?name(?: of)?)?[ \t]+[\"'“‘]?(?P<name>{NAME})"
)
"""What somebody is called, which may be a word of any kind."""
INITIAL_SUBJECT = IndexedPattern(
    rf"(?<![\w.])(?P<name>(?:[{_UPPER}]\.[ ]?){{2,4}})(?=[ \t]*(?:is|was)[ \t]+an?[ \t]+"
    r"(?:[a-z-]+[ \t]+){0,2}\d{1,3}[ -]?(?:y|[MF]\b))"
)
"""``J.R.W. is a 67-year-old``: a patient by initials alone; ``the E.R. was a busy place`` is none."""
LOWER_DESCRIBED = re.compile(
    r"(?:^|[\n.;:])[ \t]*(?P<name>[a-z][a-z'’-]{2,}[ \t]+[a-z][a-z'’-]{2,})(?=,?[ \t]+(?:(?:is|was)[ \t]+)?"
    r"(?:an?[ \t]+)?\d{1,3}[ -]?(?:y/?o\b|years?[ -]old\b))"
)
"""``quillfeather tessa is a 56 y/o``, in a note without capitals."""
BY = IndexedPattern(
    r"(?<!\w)"
    + caseless(
        r"dictated|spoke|spoken|talked|talking|transcribed|reviewed|signed|authenticated|verified"
        r"|read|seen|written|entered"
        r"|performed|interpreted|approved|"
        r"prepared|completed|electronically signed|evaluated|examined|followed|referred|accompanied|interviewed"
        r"|supervised|cosigned|co-signed|"
        r"assisted|staffed|discussed|reported|provided|given|obtained|called|attested|ordered|requested"
        r"|cared for|managed|history"
    )
    + r"[ \t]+"
    rf"(?:(?i:by|with|from|for|to))[ \t]+(?P<name>{PAIR})"
)
RELATION = IndexedPattern(
    r"(?<!\w)"
    + caseless(
        r"wife|husband|spouse|partner|son|daughter|mother|father|mom|dad|brother|sister|niece|nephew"
        r"|aunt|uncle|cousin|friend|neighbou?r"
        r"|fianc[eé]e?|girlfriend|boyfriend|(?:grand|god)(?:son|daughter|mother|father|child)|step(?:mother|father|brother|sister)|stepson|stepdaughter"
        r"|(?:son|daughter|mother|father|brother|sister)-in-law"
        r"|hcp|proxy|guardian|caregiver|aide|roommate|landlord|pcp|pmd|cardiologist|nephrologist|oncologist"
        r"|neurologist|surgeon|physician|social worker"
        r"|named?|interpreter|translator|informant|caretaker|gentleman|lady|man|woman|male|female|attention"
        r"|student|called|known as|goes by|a\.?k\.?a\.?"
        r"|patient|pt|pharmacist|nurse|chaplain|therapist|donor|recipient|witness"
        r"|baby (?:boy|girl)|twin(?: [ab])?|newborn"
    )
    + rf"(?:['’]s name)?(?:,? (?i:is|was)|,|:| \()?[ \t]*\(?(?P<name>{RUN})"
)
DEGREE = IndexedPattern(
    rf"(?<!\w)(?P<name>{PAIR}),?[ \t]+(?:M\.?D\b\.?|D\.?O\b\.?|R\.?N\b\.?|N\.?P\b\.?|P\.?A\.?-C\b"
    rf"|Ph\.?D\b\.?|LI?CSW\b|MSW\b|DPT\b|PharmD\b|Pharm\.D\.|MBBS\b"
    r"|MBChB\b|F\.?A\.?C\.?[CSP]\b|CRNA\b|CNM\b"
    r"|OTR/L\b|CCC-SLP\b|R\.?Ph\.?\b|RDN\b|RD\b(?=,?[ \t]*\d{1,2}:?\d\d)"
    r"|[AF]P?RN\b|FNP\b|LPN\b|CNA\b|EMT\b|DDS\b|DPM\b|MPH\b|BSN\b"
    r"|MS[34]\b|PGY)"
)
WITH = IndexedPattern(
    r"(?<!\w)"
    + caseless(
        r"with|by|from|to|per|via|for|and|or|w/|d/w|called|calling|paged|contacted|informed|notified"
        r"|telephoned|phoned|tell|told|asked|ask|thank|thanks|"
        r"dear|hi|hello|cc|regarding|saw|met|see|joined|visited|reach|contact|that|when|as|but|who|of"
        r"|in"
    )
    + rf"[ \t]+(?P<name>{PAIR})"
)
DOING = IndexedPattern(
    rf"(?<!\w)(?P<name>{PAIR})(?=,?[ \t]+(?:is|was|has|had|who|will|would|presents|presented|denies|denied"
    rf"|reports|reported|states"
    r"|stated|says|said|complains|complained|lives|resides|came|arrived|called|agrees|agreed|understands"
    r"|wishes|wants|and (?:his|her))\b)"
)
SAYING = IndexedPattern(
    rf"(?<!\w)(?P<name>{PAIR})(?=,?[ \t]+(?:(?:also|then|now|still|again|always|usually|often|recently"
    rf"|currently"
    rf"|does not|did not|has|had|is|was|will|would|can|could|may) )*"
    rf"(?:ask|agree|understand|understood|wish|want|state|say|said|den(?:y|ie)|report|live|reside|call"
    rf"|phone|arrive"
    rf"|complain|endorse|refuse|decline|prefer|drive|drove|took notes|speak|spoke|visit|work|smoke|drink"
    rf"|drank"
    rf"|walk|remember|retire|marr(?:y|ie)|feel|felt|think|thought|believe|came|brought|help|shop|request"
    rf"|recommend"
    rf"|suggest|perform|cr(?:y|ie)|accompan(?:y|ie)|concur|read|sign|sleep|slept|eat|ate|enjoy|express"
    rf"|verbali[sz]e"
    rf"|appear|look|sit|sat|met|tell|told|see|saw|follow|need|deserve|hope|worr(?:y|ie)|attend|return"
    rf"|tolerated)"
    rf"(?:s|es|d|ed|ing)?\b|,?[ \t]+(?:will|would|did|does|can|could)[ \t]+(?:not |also )?(?!be |not "
    rf"|have )[a-z]{{3,}})"
)
"""A subject that does what only people do."""
DESCRIBED = IndexedPattern(
    rf"(?<!\w)(?P<name>{RUN})(?='s (?:wife|husband|son|daughter|mother|father|brother|sister|family|pcp"
    rf"|doctor)|[ \t]*(?:is|was),? an?[ \t]+\S+[- ]?(?:years?|y|old)"
    r"|[ \t]*+,?[ \t]*+(?:an?[ \t]+)?\d{1,3}[ -]?(?:y/?o\b|yo\b"
    r"|years?\b(?![ \t]+(?:ago|earlier|prior|later|before|after|back)\b))|\s*+\(?,?[ \t]*+(?:MRN?|DOB|D\.O\.B"
    r"|SSN|aged?)\b)"
)
BOTH = IndexedPattern(rf"(?<!\w)(?P<name>{CAPITAL})(?:,? (?:and|&) )(?P<other>{CAPITAL})(?![\w'’-])")
OWNING = IndexedPattern(
    rf"(?<!\w)(?P<name>{CAPITAL})(?= (?:family|household|residence|children)\b"
    r"(?! (?:history|planning|practice|practitioner|medicine|doctor|physician|meeting))"
    r"|['’]s (?:notes?|wife|husband|spouse|partner|son|daughter|mother|father|parents?|brother|sister"
    r"|family|children|office|name"
    r"|request|wishes|care|service|chart|clinic|house|home|room|mood|speech|consent|report|letter"
    r"|recommendations?|team|nurse"
    r"|doctor|pcp|birthday|insurance|voice|words|message|call|visit|appointment|opinion|input|list"
    r"|patients?)\b)"
)
"""A name in the possessive before what only people have."""
POSSESSIVE = IndexedPattern(rf"(?<!\w)(?P<name>{CAPITAL})(?=['’]s\b)")
BESIDE = IndexedPattern(
    rf"(?<!\w)(?i:by|with|and|&|per|via|page|from|for|cc|thank|thanks|to|re|covering|contact|emergency"
    rf"|notify|through|team|known to"
    rf"|named?)[: \t]+(?P<name>{CAPITAL})(?![\w'’-])(?![ \t]+[A-Z])"
)
"""A capitalised word inside a sentence, which is more likely a name than the word."""
FEELING = IndexedPattern(
    rf"(?<!\w)(?P<name>{PAIR})(?=[ \t]+(?:(?:is|was|has been|seems|appears|remains|became|feels"
    rf"|looks)[ \t]+(?:\w+ly[ \t]+|very[ \t]+"
    r"|still[ \t]+|now[ \t]+|quite[ \t]+|again[ \t]+|not[ \t]+)?)?(?:aware|tearful|anxious|pleasant|awake"
    r"|calm|confused|agitated"
    r"|cooperative|upset|worried|present|informed|notified|paged|called|updated|contacted|concerned"
    r"|depressed|angry|happy|married"
    r"|divorced|widowed|retired|covering|on call|in agreement|at (?:the )?bedside|seen|examined"
    r"|interviewed|admitted|discharged"
    r"|transferred|born|ready|eager|hungry|hopeful|frustrated|sleeping|asleep|intubated|consulted"
    r"|unavailable)\b"
    r"|[ \t]*+,?[ \t]*+\((?:his|her|their|the|wife|husband|spouse|partner|son|daughter|mother|father|mom"
    r"|dad|parents?|brother|sister"
    r"|niece|nephew|aunt|uncle|cousin|friend|neighbou?r|child(?:ren)?|grand\w+|pager|beeper|cell|phone"
    r"|tel|home|work|ext|x\d"
    r"|\+?\(?\d{3}|pcp|nephrology|cardiology|surgery|medicine|oncology|neurology|transplant|hcp|proxy|cards|neph(?:ro)?|neuro|onc|heme"
    r"|pulm|renal|ortho|psych|anesthesia|radiology|urology|gastroenterology|infectious|hospitalist|attending"
    r"|intern|resident|fellow|rn)"
    r"|[ \t]*+(?:[,:][ \t]++|(?<=[ \t]))(?:(?i:phone|tel|pager|home|work|beeper|x|ext)\b"
    r"|(?i:cell)(?=[ \t]*+(?:[:#(+\d]|(?i:phone|number|no\.|is\b)))"
    r"|\(?\d{3}\)?[- .]?\d{3}|\+\d|001-))"
)
"""A subject that feels something, is present, is somebody's relative or has a telephone."""
TOLD = IndexedPattern(
    r"(?<!\w)"
    + caseless(
        r"(?:spoke|spoken|speak|talk|message|word|voice ?mail|discuss|review|met|meet|left|relayed"
        r"|agreed|shared"
        r"|confirmed|explain|consult|conference|visit|arrang)\w*[ \t]+(?:[a-z-]+[ \t]+){0,3}(?:with|for|to|by"
        r"|from)|(?i:according to)"
        r"|(?:tell|told|ask(?:ed)?|inform(?:ed)?|notif(?:y|ied)|contact(?:ed)?|call(?:ed)?|phoned?|paged?"
        r"|thank(?:s|ed)?"
        r"|remind(?:ed)?|advis(?:e|ed)|instruct(?:ed)?|counsell?ed|taught|reach|met|per|e-?mail(?:ed)?"
        r"|attention|attn)"
    )
    + r"[: \t]+"
    rf"(?P<name>{PAIR})"
)
"""A name after verbs whose object is a person, such as ``told`` and ``called``."""
CLOSING = re.compile(
    rf"(?:^|\n)[ \t]*(?i:(?:many |with )?(?:thanks?(?: you)?|sincerely|(?:kind |best |warm )?regards|best"
    rf"|cordially"
    rf"|respectfully|yours)(?: (?:truly|sincerely|faithfully|again|submitted"
    rf"|yours))?)[,.!]?\s+(?P<name>{PAIR})"
)
SIGNED = re.compile(rf"(?:^|\n)[ \t]*(?:--?|~)[ \t]*(?P<name>{PAIR})(?=\s*\Z)")
"""The last line of a note, after a dash."""
APPOSED = IndexedPattern(
    r"(?<!\w)"
    + caseless(
        r"wife|husband|spouse|partner|son|daughter|mother|father|mom|dad|brother|sister|niece|nephew"
        r"|aunt|uncle|cousin|friend|neighbou?r|fianc[eé]e?|girlfriend|boyfriend|grand(?:son|daughter|mother|father)"
        r"|hcp|proxy|guardian|caregiver|caretaker|roommate|interpreter"
    )
    + rf"(?:['’]s name is|,? (?:named|called)|,|:| \()[ \t]*(?P<name>(?=[a-z]){WORD}(?:[ \t](?=[a-z]){WORD})?)"
    r"(?=[ \t]*(?:[,;)\n]|\.(?:\s|$)|$))"
)
"""An apposition that names somebody's relative; in it even a lower-case word can be a name."""
BINOMIAL = IndexedPattern(
    rf"(?<!\w)(?P<name>[{_UPPER}](?:[a-z]{{3,}}|\.))[ \t]+"
    r"(?P<species>[a-z]{4,}(?:i|e|is|us|um|ae|ans|ens|a|es|or|ax))(?!\w)"
)
"""``Clostridioides difficile``: a genus, or its initial, before a species, which is written small."""
INITIALS_AFTER = IndexedPattern(rf"(?<![\w'’-])(?P<name>{CAPITAL}) (?P<initials>[A-Z]{{2}})(?![\w'’-])")
"""``Quillfeather TM``, as lists of recipients write it."""
RECIPIENT_NEXT = re.compile(r"(?:w/|[;:]|(?<!\w)(?i:with|by|from|per|cc)) $")
LOWER_SUBJECT = IndexedPattern(
    r"(?<!\w)"
    + caseless(
        r"pt|patient|wife|husband|spouse|partner|son|daughter|mother|father|mom|dad|brother|sister|niece|nephew|aunt"
        r"|uncle|cousin|friend|neighbou?r|nurse|aide|rn|hcp|proxy|guardian|caregiver|interpreter|chaplain"
    )
    + r"[,:]?[ \t]+(?P<name>[a-z][a-z'’-]{2,}(?:[ \t]+[a-z][a-z'’-]{2,})?)(?![\w'’])"
)
"""``pt quillfeather c/o``: after whom a note is about, hurried people write names small."""
SUBJECT_DOES = re.compile(
    r"[ \t]*(?:[,;(]|$|\n|\.(?:\s|$))|[ \t]+(?:c/o|s/p|w/|is|was|has|had|will|would|who|at|in|on|and|with"
    r"|here|for|to|now|again|came|called|calls?|says?|said|states?|stated|wants?|asks?|asked|refus\w+|declin\w+|den(?:y|ies|ied)|reports?|reported"
    r"|presents?|presented|complain\w+|aged?|dob|mrn|room|rm|\d)(?!\w)"
)
"""What follows a subject, or its end."""
LAST_FIRST = IndexedPattern(
    rf"(?<![\w'’-])(?P<name>{CAPITAL}), (?:[A-Z](?:\. ?[A-Z])?)(?:\.|(?=[ \t]*(?:[;\n]|$)))"
)
CAPITALS_COMMA = IndexedPattern(
    r"(?<![\w'’-])(?P<name>[A-Z][A-Z'’-]{2,}), (?P<other>[A-Z][A-Z'’-]{2,})(?![\w'’-])"
)
"""``QUILLFEATHER, TESSA``, as forms and labels write it."""
CAPITALS_PAIR = IndexedPattern(
    r"(?<![\w'’-])(?P<name>[A-Z][A-Z'’-]{4,}) (?P<other>[A-Z][A-Z'’-]{4,})(?![\w'’-])"
)
"""``TESSA QUILLFEATHER`` in a note that is written in capitals."""
SEVERAL = IndexedPattern(
    rf"(?<!\w)(?i:drs|dr['’]s|doctors|messrs|mr and mrs|mr\. and mrs)\b\.?[ \t]+(?P<list>{CAPITAL}"
    rf"(?:(?:,? (?:and|&)|,|/)[ \t]*{CAPITAL}){{1,5}})"
)
"""``Drs. Lind and Wexcombe``."""
SLASHED = IndexedPattern(rf"(?<![\w/])(?P<list>{CAPITAL}(?:/{CAPITAL}){{1,4}})(?![\w/])")
"""``Lind/Wexcombe``: those who saw a patient together."""
ANOTHER_SCRIPT = re.compile(
    r"(?<!\w)(?:[\u0386-\u03ab][\u0370-\u03ff\u1f00-\u1fff]{2,}"  # Greek
    r"|[\u0400-\u042f][\u0400-\u052f]+|[\u0400-\u042f](?=\.)"  # Cyrillic, and its initials
    r"|[\u0531-\u0556][\u0531-\u0587]+)"  # Armenian
    r"|(?=[^\W\d_])[\u0590-\u1dff\u3005\u3041-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
    r"\U00020000-\U0003ffff]+"  # from Hebrew to Chinese: without capitals
)
"""A capitalised word of another script, or any word of a script without capitals.

In a note in the Latin script these are mostly names. ``μg``, ``β`` and ``ΔP`` do not match."""
INITIALS = IndexedPattern(rf"(?<![\w.])(?P<first>[A-Z]\.[ -]?){{1,2}}(?P<name>{CAPITAL})")
RUNS = IndexedPattern(rf"(?<![\w'’-]){NAME}(?:,? {NAME})*+")
"""Capitalised words in a row."""
INTRODUCTIONS = (
    (TITLE, True, False),
    (NICKNAME, True, False),
    (DEGREE, True, True),
    (LABEL, False, False),
    (RANK, False, False),
    (BY, False, False),
    (RELATION, False, False),
    (DESCRIBED, False, True),
    (CLOSING, False, False),
    (SIGNED, False, False),
    (TOLD, False, False),
)
"""Introductions of a person: the pattern, whether it is certain, and whether it stands after the name."""
EPONYM_NEXT = re.compile(
    r"(?:['’]s?|s['’])?[ \t-]++(?:[a-z]++[ \t]++)?(?i:disease|syndrome|sign|tests?|catheter|man(?:eu|oeu)ver"
    r"|position|palsy|fracture|contracture|lymphoma|thyroiditis|"
    r"score|scale|criteria|class|classification|stage|procedure|operation|reflex|retractors?|clamps?|forceps"
    r"|drains?|needle|monitor|stain|tube|"
    r"bag|lines?|block|phenomenon|o?esophagus|ulcer|cysts?|tumou?r|sarcoma|hernia|ligament|tendon|nodes?"
    r"|respirations?|breathing|scissors|"
    r"pouch|incision|approach|view|waves?|effect|law|ring|angina|ataxia|chorea|dementia|encephalopathy"
    r"|aphasia|gait|fissure|"
    r"parkinsonism|opthalmopathy|ophthalmopathy|anemia|agar|nodules?|spots?|lesions?|arthritis|disorder"
    r"|equation|formula|index|tremor|"
    r"duct|gland|canal|fascia|pouch|membrane|corpuscles|fold|body|bodies|cells?|collar|brace|splint|boots?"
    r"|bandage|dressing|elevator|aneurysms?|"
    r"knife|punch|curettes?|rongeurs?|speculum|tenaculum|blade|cannula|balloon|stent|filter|graft|valve"
    r"|screws?|plate|nail|pins?|wire|"
    r"suture|stitch|technique|method|repair|protocol|regimen|study|trial|point|triad|pentad|murmur|pulse|pattern|deformity"
    r"|cardiomyopathy|dissection|anatomy|fundoplication|myotomy|viruse?s?|toxin|antibod(?:y|ies)|casts?|foot|gangrene"
    r"|purpura|dysplasia|diverticulum|diverticula|malformation|variant|carcinoma|disease|macroglobulinemia|telemetry|lactate"
    r"|rings?|grade|type|stage|hump|complex|smear|joint|paralysis|seizures?|habitus|arteritis|nephropathy|infection"
    r"|bacteremia|fungemia|sepsis|colitis|pneumonia|meningitis|serolog(?:y|ies)|titers?|PCR|IgM|IgG)\b"
)
THING_BEFORE = re.compile(
    r"(?:\b(?i:the|an?|of|on|taking|takes?|took|taken|given|gave|received?|receiving|using|used"
    r"|start(?:ed)?|resumed?"
    r"|continued?|stopped|held|doses?|mg|mcg|via|no|some|allergic to|iv|po|plus|oral|nasal|inhaled|or"
    r"|into|through|was)"
    r"|[\d/+%-])[ \t]+$"
)
THING_AFTER = re.compile(
    r"(?:[ \t]*+(?:[\d(+/®]|-[ \t]?\d)|[ \t]++(?i:mg|mcg|iv|po|tablets?|capsules?|cream|ointment|drops?|inhaler"
    r"|nebuli[sz]ers?|spray"
    r"|patch(?:es)?|gel|solution|infusion|injections?|mesh|device|system|rods?|sponge|powder|therapy"
    r"|treatment|was (?:given|held"
    r"|started|stopped|used|placed|applied|sent|continued|discontinued)|daily|at bedtime|as needed"
    r"|p\.?r\.?n)\b)"
)
"""Words after something that is given, taken, placed or used, which is no person."""
ACTS_AFTER = re.compile(
    r"[ \t]++(?!(?:of|with|without|within|in|on|at|for|from|noted|seen|present|negative|positive|show(?:s"
    r"|ed)|are|were|daily|intact"
    r"|normal|reveal(?:s|ed)|demonstrate[sd]|given|used|placed|obtained|performed|sent|held|applied)\b)[a-z]"
)
"""Verbs after the subject of a sentence, except those that follow findings and procedures."""
END_OF_SENTENCE = re.compile(r"(?:^|[.!?:;\n]|\n[ \t]*(?:[-*•#]|\d+[.)]))[\s\"'(]*$")

PARTICLES = listed_words("particles")
INITIALISMS = listed_words("initialisms")
CONJUNCTIONS = listed_words("conjunctions")
SIDED = listed_words("sided")
OPENERS = listed_words("openers")
NOT_NAMES = listed_words("not_names")
