"""Phrases of the synthetic notes for each reason for admission and each hidden factor.

Levels run from 0 (best) to 4 (worst). In curly brackets stand the slots that ``notes`` fills; ``{he}``,
``{his}`` and ``{man}`` follow the patient's sex.
"""

from typing import Final

Levels = tuple[tuple[str, ...], ...]

FRAILTY: Final[Levels] = (
    ("Fit and active, walks two miles daily. CFS 2.", "Plays golf weekly, independent in all ADLs and IADLs.",
     "Very robust for {his} age; CFS 1-2."),
    ("Independent in ADLs, does own shopping. CFS 3.", "Managing well, walks without a device.",
     "Independent at baseline, drives."),
    ("Slowing down over the past year, tires easily. CFS 4.", "Uses a cane outdoors; independent in basic ADLs.",
     "Vulnerable, some help with heavy housework."),
    ("Needs help with bathing and stairs, walker at baseline. CFS 6.", "Two falls in six months, uses a walker.",
     "Frail, needs assistance with most IADLs, CFS 5-6."),
    ("Dependent for all personal care, mostly bedbound. CFS 7-8.", "Cachectic and frail, needs full assist with ADLs.",
     "Severely frail; wheelchair bound, temporal wasting."),
)  # fmt: skip

SUPPORT: Final[Levels] = (
    ("Lives with spouse, daughter is a nurse and visits every day.", "Large supportive family at bedside.",
     "Strong support at home, VNA already in place."),
    ("Lives with family.", "Lives with spouse in own home.", "Son lives next door and helps with groceries."),
    ("Lives with a roommate.", "Lives alone in an elevator building, neighbor checks in.",
     "Lives with elderly spouse."),
    ("Lives alone, limited help.", "Widowed, few visitors, third-floor walk-up.",
     "Estranged from family, lives alone."),
    ("Currently undomiciled, staying in a shelter.", "No one at home to help; no reliable phone.",
     "Socially isolated, was found by neighbors, no HCP named."),
)  # fmt: skip

ADHERENCE: Final[Levels] = (
    ("Takes all medications as prescribed, keeps a pill log.", "Excellent adherence, never misses appointments."),
    ("Reports taking medications regularly.", "Uses a weekly pill box."),
    ("Sometimes forgets evening doses.", "Mostly adherent, ran out of one medication last week."),
    ("Admits to missing doses several times a week.", "Has missed the last two clinic visits."),
    ("Has not taken any medications for weeks.", "Longstanding non-adherence; stopped {his} pills on {his} own."),
)  # fmt: skip

APPEARANCE: Final[Levels] = (
    ("Well-appearing, in no acute distress, speaking in full sentences.", "Comfortable, pleasant, joking with staff.",
     "NAD, breathing easily, no accessory muscle use."),
    ("In no apparent distress.", "Alert and comfortable.", "Appears well, mildly fatigued."),
    ("Tired-appearing, mildly uncomfortable.", "Somewhat anxious, breathing slightly fast.",
     "Fatigued, skin warm."),
    ("Ill-appearing, mild increased work of breathing.", "Looks unwell, pale, slow to answer.",
     "Uncomfortable, speaking in short sentences."),
    ("Toxic-appearing, diaphoretic, using accessory muscles.", "Looks very unwell, mottled knees, gray.",
     "In extremis, labored breathing with intercostal retractions."),
)  # fmt: skip

FULL_CODE: Final = (
    "Full code.",
    "Full code (presumed).",
    "FULL, confirmed with patient.",
    "Full code, OK for ICU transfer.",
)
LIMITED_CODE: Final = (
    "DNR/DNI.", "DNR/DNI, MOLST in chart.", "DNR, ok for NIV; family prefers no escalation.",
    "Comfort is the priority, would not want ICU care.", "DNR/DNI; palliative care following.",
)  # fmt: skip

COMPLAINT: Final[dict[str, tuple[str, ...]]] = {
    "sepsis": (
        "fever, rigors and hypotension",
        "two days of fever and confusion",
        "weakness, found febrile to 103",
    ),
    "pneumonia": (
        "cough productive of green sputum and fever",
        "worsening dyspnea, pleuritic CP and chills",
        "SOB and cough x 4 days",
    ),
    "aspiration_pneumonia": (
        "hypoxia after a witnessed aspiration",
        "cough while eating, new O2 requirement",
    ),
    "urinary_infection": (
        "dysuria and flank pain",
        "urinary frequency and new confusion",
        "fever, foul-smelling urine",
    ),
    "cellulitis": ("redness and swelling of the left leg", "spreading erythema of the R calf"),
    "c_difficile": (
        "watery diarrhea 8-10x/day after a course of antibiotics",
        "abdominal cramps and diarrhea",
    ),
    "heart_failure": (
        "progressive DOE, orthopnea and leg edema",
        "weight gain of 12 lb and PND",
        "SOB, LE swelling",
    ),
    "infarction": (
        "substernal chest pressure radiating to the jaw",
        "CP at rest with diaphoresis, troponin positive",
    ),
    "copd_exacerbation": ("increasing dyspnea and wheezing", "SOB, more sputum, using inhaler every 2 h"),
    "pulmonary_embolism": (
        "sudden pleuritic chest pain and dyspnea",
        "syncope and hypoxia, recent long flight",
    ),
    "stroke": ("acute left-sided weakness and facial droop", "aphasia, last known well 3 h before arrival"),
    "intracranial_hemorrhage": ("sudden severe headache and vomiting", "found down, R hemiparesis"),
    "gi_bleed": ("melena x 2 days and lightheadedness", "hematemesis, BRBPR", "black stools, Hct drop"),
    "kidney_injury": ("decreased urine output and poor PO intake", "abnormal labs, Cr up from baseline"),
    "ketoacidosis": ("polyuria, vomiting and glucose > 500", "nausea, abdominal pain, ran out of insulin"),
    "hepatic_encephalopathy": ("confusion and asterixis", "somnolence, missed lactulose"),
    "pancreatitis": ("epigastric pain radiating to the back", "severe abdominal pain, lipase 1,900"),
    "bowel_obstruction": (
        "abdominal distension, vomiting, no flatus",
        "crampy abdominal pain and obstipation",
    ),
    "hip_fracture": ("mechanical fall with left hip pain", "fall from standing, R leg shortened and rotated"),
    "neutropenic_fever": ("fever to 101.8 ten days after chemotherapy", "chills and mucositis, ANC 200"),
    "syncope": ("brief loss of consciousness on standing", "witnessed syncope without prodrome"),
    "chest_pain": ("atypical chest discomfort, now resolved", "CP r/o MI"),
    "joint_replacement": ("end-stage knee osteoarthritis for elective arthroplasty", "elective left TKA"),
    "bowel_resection": ("colon mass for elective right hemicolectomy", "planned laparoscopic colectomy"),
    "bypass_surgery": ("three-vessel CAD for elective CABG", "exertional angina, planned CABG x3"),
}

COURSE: Final[dict[str, tuple[str, ...]]] = {
    "sepsis": (
        "Treated with broad-spectrum antibiotics and 30 cc/kg crystalloid; lactate cleared.",
        "Required fluids and antibiotics per the sepsis bundle; cultures followed.",
    ),
    "pneumonia": (
        "CAP treated with ceftriaxone/azithromycin, weaned to room air.",
        "RLL infiltrate, completed 5 days of antibiotics.",
    ),
    "aspiration_pneumonia": ("Speech and swallow recommended a modified diet; completed antibiotics.",),
    "urinary_infection": (
        "Narrowed to PO antibiotics by sensitivities.",
        "UCx grew GNRs, treated accordingly.",
    ),
    "cellulitis": ("Erythema receded within the marked border on IV antibiotics.",),
    "c_difficile": ("PO vancomycin started, stool output fell.",),
    "heart_failure": (
        "Diuresed with IV furosemide, net negative 6 L, home torsemide resumed.",
        "Lasix gtt then PO; dry weight recorded.",
    ),
    "infarction": ("Cath with DES to the LAD; DAPT started.", "NSTEMI managed medically, TTE EF 45%."),
    "copd_exacerbation": (
        "Prednisone burst and nebs, back to home O2.",
        "Steroids, azithromycin, BiPAP overnight.",
    ),
    "pulmonary_embolism": ("Heparin gtt bridged to apixaban; RV not strained.",),
    "stroke": (
        "Outside the tPA window, ASA/statin started, PT/OT consulted.",
        "MRI confirmed infarct; no hemorrhage.",
    ),
    "intracranial_hemorrhage": ("Repeat CT stable, SBP kept < 140.",),
    "gi_bleed": ("EGD with clipping of an ulcer; Hct stable after 2 units.", "PPI gtt, no further bleeding."),
    "kidney_injury": (
        "Cr improved with fluids, nephrotoxins held.",
        "Pre-renal by urine lytes; recovered partly.",
    ),
    "ketoacidosis": ("Gap closed on insulin gtt, transitioned to basal-bolus.",),
    "hepatic_encephalopathy": ("Lactulose to 3-4 BMs daily, mentation cleared.",),
    "pancreatitis": ("NPO, LR, advanced diet as tolerated.",),
    "bowel_obstruction": ("NGT decompression, resolved without surgery.",),
    "hip_fracture": ("ORIF on hospital day 1, WBAT, lovenox prophylaxis.",),
    "neutropenic_fever": ("Cefepime until count recovery, cultures negative.",),
    "syncope": ("Orthostatic, fluids given, telemetry unremarkable.",),
    "chest_pain": ("Serial troponins negative, stress test normal.",),
    "joint_replacement": ("Uncomplicated TKA, PT on POD 0.",),
    "bowel_resection": ("Uncomplicated resection, return of bowel function on POD 3.",),
    "bypass_surgery": ("CABG x3 with LIMA-LAD, chest tubes out on POD 2.",),
}

RADIOLOGY: Final[dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]]] = {
    "lungs": ("CHEST (PORTABLE AP)",
              ("No focal consolidation, effusion or pneumothorax.", "Lungs are clear. Heart size is normal."),
              ("Multifocal opacities in both lower lobes, concerning for pneumonia.",
               "Moderate pulmonary edema with bilateral effusions.", "New right lower lobe consolidation.")),
    "head": ("CT HEAD W/O CONTRAST",
             ("No acute intracranial process.", "No hemorrhage, mass effect or shift."),
             ("Hypodensity in the left MCA territory.", "Intraparenchymal hemorrhage with 4 mm midline shift.")),
    "abdomen": ("CT ABD & PELVIS WITH CONTRAST",
                ("No acute findings in the abdomen or pelvis.", "Unremarkable bowel gas pattern."),
                ("Dilated small bowel loops with a transition point.", "Peripancreatic stranding.",
                 "Nodular liver contour with ascites.")),
}  # fmt: skip

EXAM: Final = (
    "HEENT: NCAT, MMM. CV: RRR, no m/r/g. Abd: soft, NT/ND, negative Murphy's sign. Ext: no c/c/e, Homans negative.",
    "Lungs: decreased BS at bases. CV: irregular, II/VI SEM. Neuro: CN II-XII intact, Babinski downgoing.",
    "Neck supple, JVP 8 cm. Lungs with bibasilar crackles. Abd benign. 1+ edema. Foley in place.",
    "EOMI, PERRL. RRR. CTAB. Abd obese, soft. Warm, no rash. A&Ox3.",
)
PLAN: Final = (
    "Continue home meds, heparin SC for DVT ppx, regular diet.",
    "Trend labs daily, replete lytes K > 4 Mg > 2, PT consult.",
    "Tele, strict I/Os, hold ACE inhibitor for now, acetaminophen 650 mg q6h prn.",
    "Follow cultures, de-escalate as able, social work consult. Consider Holter if palpitations recur.",
)
INSTRUCTIONS: Final = (
    "Please take all medications as listed and weigh yourself every morning.",
    "Return to the ED for fever > 101, chest pain or trouble breathing.",
    "You were in the hospital because you were ill; you are now well enough to leave.",
)

LEVELS: Final[dict[str, tuple[str, Levels]]] = {
    "appearance": ("unwell", APPEARANCE),
    "frailty": ("frailty", FRAILTY),
    "support": ("isolation", SUPPORT),
    "adherence": ("neglect", ADHERENCE),
}
"""Slots with a phrase for a hidden factor: the factor, and the phrases of its levels."""
OF_SYNDROME: Final = {"complaint": COMPLAINT, "course": COURSE}
"""Slots with a phrase for the syndrome."""
