"""Clinical abbreviations, and what each stands for: what a clinician types and a document may write out, or write in
other words."""

import re

FULL_FORMS = {
    "abg": "arterial blood gas",
    "acs": "acute coronary syndrome",
    "aed": "antiepileptic drug",
    "af": "atrial fibrillation",
    "afib": "atrial fibrillation",
    "ain": "acute interstitial nephritis",
    "aki": "acute kidney injury",
    "als": "amyotrophic lateral sclerosis",
    "atn": "acute tubular necrosis",
    "avf": "arteriovenous fistula",
    "bp": "blood pressure",
    "bppv": "benign paroxysmal positional vertigo",
    "cad": "coronary artery disease",
    "cap": "community-acquired pneumonia",
    "ckd": "chronic kidney disease",
    "copd": "chronic obstructive pulmonary disease",
    "csf": "cerebrospinal fluid",
    "cvt": "cerebral venous thrombosis",
    "cxr": "chest radiograph",
    "dosage": "dose",
    "dosing": "dose",
    "dka": "diabetic ketoacidosis",
    "dvt": "deep vein thrombosis",
    "ecg": "electrocardiogram",
    "eeg": "electroencephalogram",
    "egfr": "estimated glomerular filtration rate",
    "ekg": "electrocardiogram",
    "esrd": "end-stage renal disease",
    "gca": "giant cell arteritis",
    "gbs": "Guillain-Barré syndrome",
    "gfr": "glomerular filtration rate",
    "gn": "glomerulonephritis",
    "hf": "heart failure",
    "hsv": "herpes simplex virus",
    "htn": "hypertension",
    "ich": "intracerebral haemorrhage",
    "icp": "intracranial pressure",
    "icu": "intensive care unit",
    "iih": "idiopathic intracranial hypertension",
    "lmwh": "low molecular weight heparin",
    "lp": "lumbar puncture",
    "mi": "myocardial infarction",
    "ms": "multiple sclerosis",
    "nph": "normal pressure hydrocephalus",
    "osa": "obstructive sleep apnoea",
    "pcc": "prothrombin complex concentrate",
    "pe": "pulmonary embolism",
    "pfo": "patent foramen ovale",
    "pml": "progressive multifocal leukoencephalopathy",
    "ppi": "proton pump inhibitor",
    "renal failure": "kidney failure",
    "renal impairment": "kidney failure",
    "renal insufficiency": "kidney failure",
    "rls": "restless legs syndrome",
    "rrt": "renal replacement therapy",
    "rta": "renal tubular acidosis",
    "sah": "subarachnoid haemorrhage",
    "siadh": "inappropriate antidiuresis",
    "sle": "systemic lupus erythematosus",
    "tb": "tuberculosis",
    "tia": "transient ischaemic attack",
    "tls": "tumour lysis syndrome",
    "ufh": "unfractionated heparin",
    "uti": "urinary tract infection",
    "vte": "venous thromboembolism",
    "xray": "radiograph",
}
_ABBREVIATION = re.compile(rf"\b(?:{'|'.join(FULL_FORMS)}|x-ray)(?=s?\b)", re.IGNORECASE)


def written_out(text: str) -> str:
    """A text with its abbreviations in full.

    >>> written_out("Which LMWH dose in AKI?")
    'Which low molecular weight heparin dose in acute kidney injury?'
    """
    return _ABBREVIATION.sub(lambda match: FULL_FORMS[match[0].lower().replace("-", "")], text)
