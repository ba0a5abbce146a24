"""The word lists and sentence patterns of the synthetic world. No other room may read them."""

GENRES = (
    "Drama", "Comedy", "Thriller", "Western", "Fantasy", "Romance",
    "Mystery", "Adventure", "War", "Musical", "Horror", "Crime",
)  # fmt: skip

# Two wordings each; which one a page uses is drawn.
THEMES = (
    ("a long feud between two families", "families divided by an old feud"),
    ("a voyage across an unmapped ocean", "sailors lost on an unmapped ocean"),
    ("revenge for a murdered brother", "a brother's revenge that spares nobody"),
    ("the first love of two teenagers", "teenagers who discover love"),
    ("a bank robbery gone wrong", "thieves trapped after a robbery"),
    ("the return of soldiers from the front", "soldiers who cannot forget the front"),
    ("a haunted house and its ghosts", "ghosts that will not leave a house"),
    ("machines that begin to think", "thinking machines and their makers"),
    ("the struggle of striking miners", "miners on strike against their owners"),
    ("a trial that divides a town", "a jury and its doubtful trial"),
    ("the rivalry of two musicians", "musicians and their bitter rivalry"),
    ("a friendship between a child and a horse", "a child who raises a wild horse"),
    ("the hunt for a hidden treasure", "a treasure map and those who hunt it"),
    ("spies who change sides", "a network of spies and traitors"),
    ("an epidemic in a closed city", "doctors who fight an epidemic"),
    ("exile and the longing for home", "exiles far from their homeland"),
    ("the rise and fall of a politician", "a politician corrupted by power"),
    ("a wedding that keeps failing", "guests at a disastrous wedding"),
    ("survival in the frozen mountains", "climbers stranded in the mountains"),
    ("a painter who forges masterpieces", "forged paintings and their painter"),
    ("the boxing ring as a way out of poverty", "a poor boxer and the ring"),
    ("twins separated at birth", "twins who learn of each other too late"),
    ("a monastery and its forbidden books", "monks who guard forbidden books"),
    ("the last days of a travelling circus", "acrobats of a dying circus"),
)

MOODS = (
    ("bleak", "joyless"), ("tender", "gentle"), ("frantic", "breathless"), ("ironic", "mocking"),
    ("dreamlike", "hazy"), ("menacing", "ominous"), ("cheerful", "sunny"), ("melancholy", "wistful"),
    ("solemn", "reverent"), ("raw", "unsparing"), ("playful", "mischievous"), ("suspenseful", "tense"),
)  # fmt: skip

COUNTRIES = (
    ("Portugal", "Portuguese"), ("Norway", "Norwegian"), ("Chile", "Chilean"), ("Kenya", "Kenyan"),
    ("Japan", "Japanese"), ("Hungary", "Hungarian"), ("Canada", "Canadian"), ("Greece", "Greek"),
    ("India", "Indian"), ("Ireland", "Irish"),
)  # fmt: skip
PERIODS = (
    "the Middle Ages", "the eighteenth century", "the Victorian era", "the 1920s", "the Great Depression",
    "the years after the war", "the 1960s", "the present day", "a distant future", "antiquity",
)  # fmt: skip
AWARDS = ("Golden Heron", "Silver Lantern", "Critics' Laurel", "Crystal Anchor", "Grand Jury Ribbon")
HEROES = (
    "a retired clockmaker", "a young nurse", "an ageing detective", "a stubborn lighthouse keeper",
    "a shy schoolteacher", "a disgraced captain", "two sisters", "a street photographer", "a village priest",
    "an orphaned apprentice",
)  # fmt: skip

ADJECTIVES = (
    "Silent", "Crimson", "Broken", "Hidden", "Golden", "Last", "Distant", "Burning", "Hollow", "Restless",
    "Forgotten", "Winter", "Borrowed", "Crooked", "Midnight", "Stolen", "Quiet", "Bitter", "Paper", "Northern",
)  # fmt: skip
NOUNS = (
    "Harbour", "Orchard", "Letter", "Bridge", "Garden", "Visitor", "Lantern", "Season", "Promise", "Station",
    "Mirror", "Journey", "Island", "Window", "Carnival", "Witness", "Stranger", "Kingdom", "Summer", "Tower",
)  # fmt: skip
ONSETS = ("b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "br", "dr", "st", "tr", "gl")
VOWELS = ("a", "e", "i", "o", "u", "ai", "ei", "ou")
CODAS = ("", "", "n", "r", "l", "s", "m", "nd", "rk", "th")

LEAD = ("{label} is a {year} {adjective} {genres} film.", "{label} ({year}) is a {genres} film from {country}.")
PEOPLE = (
    "It was directed by {director} and stars {cast}.",
    "Directed by {director}, the film stars {cast} in the leading roles.",
    "{director} directed the picture, with {cast} heading the cast.",
)
THEME = (
    "The story follows {hero} and is about {theme}.",
    "Its plot tells of {theme}, seen through the eyes of {hero}.",
    "At the centre of the story stands {hero}; the theme is {theme}.",
)
SECOND_THEME = ("A second theme of the story is {theme}.", "The plot also deals with {theme}.")
MOOD = (
    "The tone is {mood} throughout.",
    "Critics described the mood of the film as {mood}.",
    "Reviewers noted its {mood} atmosphere.",
)
PLACE = ("The story is set in {country} during {period}.", "Set in {period}, it takes place in {country}.")
AWARD = ("It won the {award} award.", "The film was nominated for the {award} award and received it.")

NOISE = (
    "It was released on {day} {month} {later} by {name} Pictures.",
    "The film grossed {number} million crowns in its first {small} weeks.",
    "Principal photography lasted {number} days and was interrupted by rain.",
    "The running time of the first cut was {number} minutes.",
    "A restored print was shown at the {name} archive in {later}.",
    "The town of {name} has {number} thousand inhabitants and lies on a river.",
    "The railway line to {name} was opened in {early}.",
    "The negative was stored in a warehouse owned by {name} Limited.",
    "A home video edition with {small} bonus tracks followed in {later}.",
    "The budget rose from {small} to {number} million crowns.",
    "{name} Hall, where some rehearsals were held, burned down in {early}.",
    "The poster was printed in {number} thousand copies.",
    "Television rights were sold to {small} broadcasters.",
    "The parish of {name} is first mentioned in a charter of {early}.",
    "The lenses were supplied by {name} and Sons.",
    "A novelisation of {number} pages appeared the same {month}.",
    "The company {name} was dissolved in {later} after a merger.",
    "The census of {early} counted {number} households in the district.",
    "Sound mixing was done at {name} Studios on {small} channels.",
    "An insurance claim over {number} thousand crowns was settled in {later}.",
)
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
