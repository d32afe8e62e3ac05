"""Conditions of the synthetic patients: chronic conditions, reasons for admission and complications, with ICD codes.

Codes are written as MIMIC-IV writes them, without dots. Every Charlson group and most Elixhauser groups of
Quan et al. 2005 (doi:10.1097/01.mlr.0000182534.19832.83) are reached, in ICD-9-CM and in ICD-10-CM. Prevalences
are those of adult medical and surgical inpatients in the United States, rounded (HCUP statistical briefs 185, 277).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Axis = Literal[
    "inflammation", "respiratory", "circulatory", "renal", "hepatic", "bleeding", "neurologic", "metabolic"
]
AXES: tuple[Axis, ...] = (
    "inflammation", "respiratory", "circulatory", "renal", "hepatic", "bleeding", "neurologic", "metabolic"
)  # fmt: skip
"""Organ systems. An axis is 0 in a healthy adult and about 3 in failure of that organ."""

AxisShift = Mapping[Axis, float]


@dataclass(frozen=True)
class Condition:
    """A chronic condition. ``prevalence`` is at age 64 and average burden; ``age_slope`` is in logits per 17 years."""

    name: str
    icd9: str
    icd10: str
    prevalence: float
    age_slope: float = 0.0
    axes: AxisShift = field(default_factory=dict)


@dataclass(frozen=True)
class Syndrome:
    """A reason for admission. ``severity`` shifts the latent acute severity, in its standard deviations.

    ``favours`` adds to the log-weight of this reason in a patient who has the chronic condition; ``stay_days``
    is the median stay of a survivor beyond the first day; ``icu`` adds to the logit of intensive care.
    """

    name: str
    icd9: str
    icd10: str
    weight: float
    severity: float
    stay_days: float
    service: str
    ward: str
    axes: AxisShift
    icu: float = 0.0
    kind: Literal["emergency", "planned", "observation"] = "emergency"
    favours: Mapping[str, float] = field(default_factory=dict)
    procedure: tuple[str, str] | None = None
    """The ICD-9-CM and ICD-10-PCS codes of its usual procedure."""
    infection: bool = False


@dataclass(frozen=True)
class Complication:
    """A complication, which is coded where the organ's axis exceeds ``threshold`` at its worst."""

    icd9: str
    icd10: str
    axis: Axis
    threshold: float


CHRONIC: tuple[Condition, ...] = (
    Condition("heart_failure", "4280", "I509", 0.14, 0.6, {"circulatory": 0.5, "renal": 0.2}),
    Condition("coronary_disease", "41401", "I2510", 0.22, 0.6, {"circulatory": 0.1}),
    Condition("old_infarction", "412", "I252", 0.06, 0.4, {"circulatory": 0.2}),
    Condition("atrial_fibrillation", "42731", "I4891", 0.15, 0.9, {"circulatory": 0.2}),
    Condition("valve_disease", "4241", "I350", 0.05, 0.8, {"circulatory": 0.2}),
    Condition("pulmonary_hypertension", "4168", "I2720", 0.03, 0.3, {"respiratory": 0.4}),
    Condition("hypertension", "4019", "I10", 0.50, 0.6),
    Condition("hypertensive_kidney_disease", "40390", "I129", 0.07, 0.5, {"renal": 0.6}),
    Condition("peripheral_vascular", "4439", "I739", 0.06, 0.5),
    Condition("aortic_aneurysm", "4414", "I714", 0.02, 0.7),
    Condition("cerebrovascular", "4389", "I6990", 0.06, 0.7, {"neurologic": 0.3}),
    Condition("hemiplegia", "34290", "G8190", 0.02, 0.3, {"neurologic": 0.5}),
    Condition("dementia", "29420", "F0390", 0.07, 1.5, {"neurologic": 0.7}),
    Condition("parkinson", "3320", "G20", 0.02, 0.9, {"neurologic": 0.3}),
    Condition("epilepsy", "34590", "G40909", 0.03, -0.1),
    Condition("copd", "496", "J449", 0.15, 0.3, {"respiratory": 0.7}),
    Condition("asthma", "49390", "J45909", 0.07, -0.3, {"respiratory": 0.2}),
    Condition("diabetes", "25000", "E119", 0.20, 0.2, {"metabolic": 0.9}),
    Condition("diabetes_with_kidney_disease", "25040", "E1122", 0.07, 0.2, {"metabolic": 1.1, "renal": 0.7}),
    Condition("diabetic_neuropathy", "25060", "E1142", 0.04, 0.2, {"metabolic": 0.5}),
    Condition("hypothyroidism", "2449", "E039", 0.11, 0.3),
    Condition("chronic_kidney_disease", "5853", "N1830", 0.11, 0.8, {"renal": 1.2}),
    Condition("end_stage_renal_disease", "5856", "N186", 0.03, 0.0, {"renal": 3.0, "bleeding": 0.4}),
    Condition("alcoholic_cirrhosis", "5712", "K7030", 0.02, -0.3, {"hepatic": 1.8, "bleeding": 0.8}),
    Condition("cirrhosis", "5715", "K7460", 0.02, 0.0, {"hepatic": 1.6, "bleeding": 0.7}),
    Condition("varices", "4561", "I8500", 0.008, -0.1, {"hepatic": 1.0, "bleeding": 0.5}),
    Condition("hepatitis_c", "07054", "B182", 0.02, -0.3, {"hepatic": 0.5}),
    Condition("fatty_liver", "5718", "K760", 0.04, -0.1, {"hepatic": 0.3}),
    Condition("peptic_ulcer", "53390", "K279", 0.02, 0.2, {"bleeding": 0.2}),
    Condition("hiv", "042", "B20", 0.008, -0.5, {"inflammation": 0.3}),
    Condition("lymphoma", "20280", "C8590", 0.015, 0.1, {"bleeding": 0.6, "inflammation": 0.3}),
    Condition("lung_cancer", "1629", "C3490", 0.02, 0.3, {"respiratory": 0.5}),
    Condition("colon_cancer", "1539", "C189", 0.015, 0.3, {"bleeding": 0.4}),
    Condition("breast_cancer", "1749", "C50919", 0.015, 0.2),
    Condition("prostate_cancer", "185", "C61", 0.015, 0.7),
    Condition("lung_metastases", "1970", "C7800", 0.012, 0.2, {"respiratory": 0.5, "bleeding": 0.4}),
    Condition("liver_metastases", "1977", "C787", 0.015, 0.2, {"hepatic": 1.0, "bleeding": 0.4}),
    Condition("bone_metastases", "1985", "C7951", 0.012, 0.2, {"bleeding": 0.5}),
    Condition("rheumatoid_arthritis", "7140", "M069", 0.025, 0.2, {"inflammation": 0.3}),
    Condition("lupus", "7100", "M329", 0.008, -0.6, {"inflammation": 0.4, "renal": 0.2}),
    Condition("obesity", "27800", "E669", 0.16, -0.4, {"metabolic": 0.2}),
    Condition("malnutrition", "2639", "E46", 0.06, 0.4, {"hepatic": 0.4}),
    Condition("anemia_of_chronic_disease", "28529", "D638", 0.08, 0.3, {"bleeding": 0.7}),
    Condition("iron_deficiency", "2809", "D509", 0.06, 0.0, {"bleeding": 0.7}),
    Condition("alcohol_use", "30390", "F1020", 0.05, -0.5, {"hepatic": 0.4}),
    Condition("opioid_use", "30400", "F1120", 0.03, -0.8),
    Condition("tobacco_use", "3051", "F17210", 0.14, -0.4, {"respiratory": 0.1}),
    Condition("schizophrenia", "29590", "F209", 0.012, -0.5),
    Condition("bipolar_disorder", "29680", "F319", 0.02, -0.5),
    Condition("depression", "311", "F329", 0.14, -0.2),
    Condition("hyperlipidemia", "2724", "E785", 0.36, 0.4),
    Condition("reflux", "53081", "K219", 0.20, 0.1),
    Condition("prostatic_hyperplasia", "60000", "N400", 0.05, 0.9),
)

SYNDROMES: tuple[Syndrome, ...] = (
    Syndrome("sepsis", "0389", "A419", 8, 1.2, 5.0, "MED", "Medicine",
             {"inflammation": 1.6, "circulatory": 0.8, "renal": 0.5, "metabolic": 0.5}, 0.5,
             favours={"chronic_kidney_disease": 0.3, "lymphoma": 0.8, "dementia": 0.5}, infection=True),
    Syndrome("pneumonia", "486", "J189", 8, 0.6, 3.5, "MED", "Medicine",
             {"respiratory": 1.3, "inflammation": 1.1}, favours={"copd": 0.6, "dementia": 0.5}, infection=True),
    Syndrome("aspiration_pneumonia", "5070", "J690", 2, 1.0, 4.5, "MED", "Med/Surg",
             {"respiratory": 1.5, "inflammation": 0.9, "neurologic": 0.8}, 0.3,
             favours={"dementia": 1.2, "parkinson": 1.0, "cerebrovascular": 0.8}, infection=True),
    Syndrome("urinary_infection", "5990", "N390", 5, 0.0, 2.5, "MED", "Medicine",
             {"inflammation": 0.8, "renal": 0.2}, favours={"dementia": 0.7, "diabetes": 0.2}, infection=True),
    Syndrome("cellulitis", "6826", "L03115", 4, -0.5, 2.5, "MED", "Med/Surg",
             {"inflammation": 0.7}, favours={"obesity": 0.5, "diabetes": 0.4}, infection=True),
    Syndrome("c_difficile", "00845", "A0472", 1.5, 0.3, 3.5, "MED", "Medicine",
             {"inflammation": 1.0, "renal": 0.4}, favours={"chronic_kidney_disease": 0.3}, infection=True),
    Syndrome("heart_failure", "42823", "I5023", 8, 0.4, 3.5, "CMED", "Medicine/Cardiology",
             {"circulatory": 1.2, "respiratory": 0.8, "renal": 0.4},
             favours={"heart_failure": 2.2, "coronary_disease": 0.4}),
    Syndrome("infarction", "41071", "I214", 6, 0.5, 2.8, "CMED", "Medicine/Cardiology",
             {"circulatory": 1.4}, 0.6, favours={"coronary_disease": 0.9}, procedure=("3606", "027034Z")),
    Syndrome("copd_exacerbation", "49121", "J441", 6, 0.3, 2.8, "MED", "Medicine",
             {"respiratory": 1.6}, 0.1, favours={"copd": 2.6, "tobacco_use": 0.3}),
    Syndrome("pulmonary_embolism", "41519", "I2699", 2.5, 0.4, 3.0, "MED", "Medicine",
             {"respiratory": 1.2, "circulatory": 0.6}, favours={"lung_cancer": 0.8, "colon_cancer": 0.5}),
    Syndrome("stroke", "43491", "I639", 4.5, 0.4, 3.5, "NMED", "Neurology",
             {"neurologic": 1.6}, 0.2, favours={"atrial_fibrillation": 0.6, "cerebrovascular": 0.6}),
    Syndrome("intracranial_hemorrhage", "431", "I619", 2, 1.3, 5.0, "NSURG", "Neurology",
             {"neurologic": 2.2, "circulatory": 0.3}, 1.2, favours={"atrial_fibrillation": 0.5}),
    Syndrome("gi_bleed", "5789", "K922", 5, 0.3, 2.8, "MED", "Medicine",
             {"bleeding": 1.8, "circulatory": 0.4}, 0.4,
             favours={"cirrhosis": 1.2, "varices": 2.0, "peptic_ulcer": 1.2}, procedure=("4513", "0DJ08ZZ")),
    Syndrome("kidney_injury", "5849", "N179", 5, 0.4, 3.5, "MED", "Medicine",
             {"renal": 1.8, "metabolic": 0.5}, favours={"chronic_kidney_disease": 1.0, "heart_failure": 0.3}),
    Syndrome("ketoacidosis", "25010", "E1110", 2, 0.2, 2.0, "MED", "Med/Surg",
             {"metabolic": 3.0, "renal": 0.3}, 0.6, favours={"diabetes": 1.6}),
    Syndrome("hepatic_encephalopathy", "5722", "K7290", 2, 0.9, 4.5, "MED", "Transplant",
             {"hepatic": 1.6, "neurologic": 1.2, "bleeding": 0.5}, 0.2,
             favours={"cirrhosis": 3.0, "alcoholic_cirrhosis": 3.2}),
    Syndrome("pancreatitis", "5770", "K8590", 2.5, 0.2, 3.5, "SURG", "Med/Surg",
             {"inflammation": 0.9, "metabolic": 0.6, "hepatic": 0.4}, favours={"alcohol_use": 1.2}),
    Syndrome("bowel_obstruction", "5609", "K56609", 3, 0.0, 3.5, "SURG", "Med/Surg",
             {"inflammation": 0.4, "metabolic": 0.3}, favours={"colon_cancer": 1.2}),
    Syndrome("hip_fracture", "82021", "S72141A", 3.5, 0.2, 4.0, "ORTHO", "Med/Surg/Trauma",
             {"bleeding": 0.8, "neurologic": 0.3}, favours={"dementia": 0.9, "parkinson": 0.6},
             procedure=("7935", "0QS604Z")),
    Syndrome("neutropenic_fever", "28803", "D701", 2, 0.8, 4.5, "OMED", "Hematology/Oncology",
             {"inflammation": 1.0, "bleeding": 1.2}, 0.1,
             favours={"lymphoma": 3.0, "lung_metastases": 1.5, "liver_metastases": 1.5}, infection=True),
    Syndrome("syncope", "7802", "R55", 3, -1.0, 0.6, "MED", "Medicine", {"circulatory": 0.2}, -1.0, "observation"),
    Syndrome("chest_pain", "78650", "R079", 4.5, -1.2, 0.4, "CMED", "Medicine/Cardiology",
             {"circulatory": 0.2}, -1.5, "observation", {"coronary_disease": 0.4}),
    Syndrome("joint_replacement", "71536", "M179", 6, -1.3, 1.8, "ORTHO", "Surgery/Trauma",
             {"bleeding": 0.5}, -1.5, "planned", {"obesity": 0.3}, ("8154", "0SRC0J9")),
    Syndrome("bowel_resection", "1539", "C189", 3, -0.6, 4.5, "SURG", "Med/Surg",
             {"bleeding": 0.5, "inflammation": 0.4}, -0.2, "planned", {"colon_cancer": 2.0}, ("4573", "0DTF0ZZ")),
    Syndrome("bypass_surgery", "41401", "I2510", 3, 0.0, 5.0, "CSURG", "Cardiac Surgery",
             {"circulatory": 0.9, "bleeding": 0.9}, 2.5, "planned", {"coronary_disease": 1.6}, ("3615", "02100Z9")),
)  # fmt: skip

COMPLICATIONS: tuple[Complication, ...] = (
    Complication("78552", "R6521", "circulatory", 3.2),  # septic shock
    Complication("4589", "I959", "circulatory", 2.2),  # hypotension
    Complication("51881", "J9601", "respiratory", 2.4),  # acute respiratory failure
    Complication("5119", "J90", "respiratory", 1.8),  # pleural effusion
    Complication("5849", "N179", "renal", 2.0),  # acute kidney failure
    Complication("2767", "E875", "renal", 2.6),  # hyperkalaemia
    Complication("2762", "E872", "metabolic", 2.4),  # acidosis
    Complication("2761", "E871", "metabolic", 1.8),  # hyponatraemia
    Complication("2875", "D696", "bleeding", 2.0),  # thrombocytopenia
    Complication("2851", "D62", "bleeding", 1.8),  # acute blood-loss anaemia
    Complication("2869", "D689", "hepatic", 2.6),  # coagulopathy
    Complication("2930", "F05", "neurologic", 1.8),  # delirium
    Complication("34831", "G9341", "neurologic", 2.4),  # metabolic encephalopathy
    Complication("70703", "L89159", "inflammation", 2.8),  # pressure ulcer
)
